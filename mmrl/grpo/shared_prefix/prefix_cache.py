"""Shared-prefix generation: each prompt and its media are read once, and its rollouts share its cache.

Shapes: B rollouts, P unique prompts, L prompt tokens (left-padded), C completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mmrl.core.families import family_of
from mmrl.grpo.shared_prefix.attention import attends, has_own_mask, installed
from mmrl.grpo.shared_prefix.cache import shared_cache, shares
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import bare, core, has_rope_index
from mmrl.model.sampling import plain_generation

Media = Callable[[Sequence[Encoded], Tensor], dict[str, Tensor]]


def takes_prefill(model: Any) -> bool:
    """Whether a prompt can be read without its last token, which is read later: every layer attends to tokens alone and
    keeps keys, no compressed states, and a mask of its own joins the tokens of pictures only."""
    compressed = getattr(bare(model).config.get_text_config(), "kv_lora_rank", None) is not None
    return (
        attends(model)
        and not compressed
        and (not has_own_mask(model) or family_of(bare(model).config).both_ways is not None)
    )


def within_window(model: Any, rows: Sequence[Encoded]) -> bool:
    """Whether the prompts of `rows` fit into the windows of the layers: a cache that has let go of keys is not cut."""
    text = model.config.get_text_config()
    if "sliding_attention" not in (getattr(text, "layer_types", None) or ()):
        return True
    return max(len(row.input_ids) for row in rows) <= text.sliding_window


def generated(
    model: Any,
    rows: Sequence[Encoded],
    media: Media,
    *,
    pad: int,
    device: Any,
    shared: bool,
    at_once: int | None = None,
    **settings: Any,
) -> Tensor:
    """[B, C] completions of `rows` (the same object for the rollouts of one prompt) by `model.generate(**settings)`.

    `media` gives the media tensors of some rows as model inputs, for their left-padded token ids. Where prompts are
    shared, those of `at_once` prompts (all by default) are on the device at a time.
    """
    ids_BL, mask_BL = left_padded(rows, pad, device)
    if shared:
        inputs = prefilled(model, rows, media, pad=pad, device=device, at_once=at_once)
    else:
        inputs: dict[str, Any] = media(rows, ids_BL)
    with plain_generation(model):
        output = model.generate(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            **inputs,
            **settings,
            pad_token_id=pad,
            synced_gpus=False,  # each process has all weights
        )
    return output[:, ids_BL.shape[1] :]


def prefilled(
    model: Any, rows: Sequence[Encoded], media: Media, *, pad: int, device: Any, at_once: int | None = None
) -> dict[str, Any]:
    """The cache of all prompt tokens but the last, read once per prompt.

    The rows of a prompt share it. It is copied for them only where layers do not keep all keys, or where groups have
    unequal sizes.
    """
    prompts = list({id(row): row for row in rows}.values())
    number = {id(prompt): p for p, prompt in enumerate(prompts)}
    ids_PL, mask_PL = left_padded(prompts, pad, device)
    size = at_once or len(prompts)
    parts = [slice(start, start + size) for start in range(0, len(prompts), size)]
    read = [_read(model, prompts[part], ids_PL[part], mask_PL[part], media) for part in parts]
    cache = _joined(model, [one for one, _ in read])
    row_B = torch.tensor([number[id(row)] for row in rows], device=device)
    in_groups_B = torch.arange(len(prompts), device=device).repeat_interleave(len(rows) // len(prompts))
    if shares(cache) and row_B.equal(in_groups_B):
        installed(model.config)
        cache = shared_cache(cache, mask_PL[:, :-1].bool())
    else:
        cache.batch_select_indices(row_B)
    inner = core(model)
    if has_rope_index(model):
        inner.rope_deltas = torch.cat([deltas_P1 for _, deltas_P1 in read])[row_B]
    return {"past_key_values": cache}


def _read(
    model: Any, prompts: Sequence[Encoded], ids_PL: Tensor, mask_PL: Tensor, media: Media
) -> tuple[DynamicCache, Tensor]:
    """The cache of some prompts without their last token, which `generate` reads again; rope deltas [P, 1]."""
    inputs, inner = media(prompts, ids_PL), core(model)
    grids = any(key.endswith("_grid_thw") for key in inputs)  # text alone has the positions of any other model
    mrope = has_rope_index(model) and grids
    if mrope:
        inner.rope_deltas = None  # of an earlier batch
    else:
        step_PL = (mask_PL.cumsum(dim=1) - 1).clamp(min=0)
        if _counts_from_words(model, ids_PL, step_PL):
            inputs["position_ids"] = step_PL
    cache = DynamicCache(config=model.config)
    model(input_ids=ids_PL, attention_mask=mask_PL, **inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.crop(-1)
    deltas_P1 = inner.rope_deltas if mrope else torch.zeros(len(prompts), 1, dtype=torch.long, device=ids_PL.device)
    return cache, deltas_P1  # pyright: ignore[reportReturnType]


def _counts_from_words(model: Any, ids_PL: Tensor, step_PL: Tensor) -> bool:
    """Whether `generate` counts positions from the first word of a prompt, not from its padding as EXAONE 4.5 does."""
    made = model.prepare_inputs_for_generation(ids_PL, position_ids=step_PL, use_cache=False)
    return made.get("position_ids") is not None


def _joined(model: Any, caches: Sequence[DynamicCache]) -> DynamicCache:
    """One cache of the rows of several."""
    if len(caches) == 1:
        return caches[0]
    cache = DynamicCache(config=model.config)
    for number, layers in enumerate(zip(*(one.layers for one in caches), strict=True)):
        keys, values = (torch.cat([getattr(layer, kind) for layer in layers]) for kind in ("keys", "values"))
        cache.update(keys, values, number)
    return cache


def left_padded(rows: Sequence[Encoded], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """(token ids, attention mask), both [rows, L]."""
    length = max(len(row.input_ids) for row in rows)
    gaps = [length - len(row.input_ids) for row in rows]
    ids = [[pad] * gap + row.input_ids for gap, row in zip(gaps, rows, strict=True)]
    mask = [[0] * gap + [1] * (length - gap) for gap in gaps]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
