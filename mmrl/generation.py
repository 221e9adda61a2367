"""Shared-prefix generation: each prompt and its media are read once, then its cache is copied for every rollout.

Shapes: B rollouts, P unique prompts, L prompt tokens (left-padded), C completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from eval.encode import Encoded
from mmrl.models import core

Media = Callable[[Sequence[Encoded], Tensor], dict[str, Tensor]]


def generated(
    model: Any, rows: Sequence[Encoded], media: Media, *, pad: int, device: Any, shared: bool, **settings: Any
) -> Tensor:
    """[B, C] completions of `rows` (the same object for the rollouts of one prompt) by `model.generate(**settings)`.

    `media` gives the media tensors of some rows as model inputs, for their left-padded token ids.
    """
    ids_BL, mask_BL = left_padded(rows, pad, device)
    inputs: dict[str, Any] = prefilled(model, rows, media, pad=pad, device=device) if shared else media(rows, ids_BL)
    output = model.generate(input_ids=ids_BL, attention_mask=mask_BL, **inputs, **settings, pad_token_id=pad)
    return output[:, ids_BL.shape[1] :]


def prefilled(model: Any, rows: Sequence[Encoded], media: Media, *, pad: int, device: Any) -> dict[str, Any]:
    """The cache of all prompt tokens but the last, read once per prompt and copied for every row."""
    prompts = list({id(row): row for row in rows}.values())
    number = {id(prompt): p for p, prompt in enumerate(prompts)}
    ids_PL, mask_PL = left_padded(prompts, pad, device)
    inputs = media(prompts, ids_PL)
    inner = core(model)
    with_grids = any(key.endswith("_grid_thw") for key in inputs)
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None  # of an earlier batch
    if not with_grids:
        inputs["position_ids"] = (mask_PL.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids_PL, attention_mask=mask_PL, **inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.crop(-1)  # generate wants a token to go on from: it reads each prompt's last one again
    row_B = torch.tensor([number[id(row)] for row in rows], device=device)
    cache.batch_select_indices(row_B)
    if hasattr(inner, "rope_deltas"):
        none_P1 = torch.zeros(len(prompts), 1, dtype=torch.long, device=device)
        deltas_P1: Tensor = inner.rope_deltas if with_grids else none_P1  # pyright: ignore[reportAssignmentType]
        inner.rope_deltas = deltas_P1[row_B]
    return {"past_key_values": cache}


def left_padded(rows: Sequence[Encoded], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """(token ids, attention mask), both [rows, L]."""
    length = max(len(row.input_ids) for row in rows)
    gaps = [length - len(row.input_ids) for row in rows]
    ids = [[pad] * gap + row.input_ids for gap, row in zip(gaps, rows, strict=True)]
    mask = [[0] * gap + [1] * (length - gap) for gap in gaps]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
