"""Rewards on tensors of pixels, for those who follow their gradient. Shapes: N pictures of H x W pixels, D dimensions.

Each is the reward of its name, but for bounds at 0, where a gradient would end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.core.messages import user_text
from mmrl.core.registry import resolve
from rewards.base import Rollout
from rewards.heads.embeddings_torch import clip_texts, pixel_vectors
from rewards.heads.transport_torch import Matching
from rewards.rules.conditions import EXTRACTORS, condition_of
from rewards.rules.edits import asked_for, pixels_of


def edit_match(pixels_N3HW: Tensor, rollout: Rollout, *, tolerance: float = 0.25) -> Tensor:
    """[N]: the lower of how far the edit is done and how far the rest is kept (`rewards.rules.edits`)."""
    if not rollout.gold_media or not rollout.media:
        raise InputError("edit_match needs the right edit: set decode.gold: true, and give data that show it")
    source, gold = pixels_of(rollout.media[0]), pixels_of(rollout.gold_media[0])
    if gold.shape[:2] != tuple(pixels_N3HW.shape[2:]):
        raise InputError(f"the right edit is {gold.shape[1]}x{gold.shape[0]}, another size than what is made")
    asked = torch.from_numpy(asked_for(source, gold)).to(pixels_N3HW.device)
    gold_3HW = torch.from_numpy(gold).permute(2, 0, 1).to(pixels_N3HW)
    gap_NHW = (pixels_N3HW - gold_3HW).abs().mean(dim=1)
    scores = [1 - gap_NHW[:, where].mean(dim=1) / tolerance for where in (asked, ~asked) if where.any()]
    return torch.stack(scores).amin(dim=0)


def condition_match(pixels_N3HW: Tensor, rollout: Rollout, *, extractor: str = "edges") -> Tensor:
    """[N]: one minus the mean squared error of the condition that is read (`rewards.rules.conditions`)."""
    if not rollout.media:
        raise InputError("condition_match needs a condition: a source picture")
    read_NCHW = resolve(extractor, EXTRACTORS, "extractor")(pixels_N3HW)
    wanted_CHW = torch.from_numpy(condition_of(rollout.media[0], read_NCHW.shape[1])).to(read_NCHW)
    if read_NCHW.shape[1:] != wanted_CHW.shape:
        raise InputError(
            f"the condition is {wanted_CHW.shape[2]}x{wanted_CHW.shape[1]}, the extractor {extractor} reads "
            f"{read_NCHW.shape[3]}x{read_NCHW.shape[2]}; must be one size"
        )
    return 1 - (read_NCHW - wanted_CHW).square().flatten(1).mean(dim=1)


def embedding_similarity(
    pixels_N3HW: Tensor,
    rollout: Rollout,
    *,
    model: str,
    goal: str | list[str] | None = None,
    baseline: str | list[str] | None = None,
    alpha: float = 0.0,
    batch: int = 16,
    device: str = "auto",
    dtype: str = "float32",
) -> Tensor:
    """[N]: how near pictures are to the goal texts (`rewards.heads.embedding_similarity`)."""
    if goal is None:
        raise InputError("embedding_similarity without a goal reads what a model writes; give it a goal")
    options: dict[str, Any] = {"model": model, "batch": batch, "device": device, "dtype": dtype}
    state_ND = pixel_vectors(pixels_N3HW, model=model, device=device, dtype=dtype)
    goal_D = _mean(goal, options).to(state_ND)
    baseline_D = goal_D if baseline is None else _mean(baseline, options).to(state_ND)
    gap_ND, along_D = state_ND - goal_D, goal_D - baseline_D
    length = along_D.square().sum()
    if length <= 1e-12:
        alpha, length = 0.0, length + 1
    shared_ND = (gap_ND @ along_D / length)[:, None] * along_D
    return 1 - (alpha * shared_ND + (1 - alpha) * gap_ND).square().sum(dim=1) / 2


def transport(
    pixels_N3HW: Tensor, rollout: Rollout, *, model: str, goal: str | None = None, batch: int = 16, **options: Any
) -> Tensor:
    """[N]: how well pictures show the text, by optimal transport (`rewards.heads.transport`); plans are constants."""
    device, dtype = options.pop("device", "auto"), options.pop("dtype", "float32")
    return Matching(model, device, dtype, **options).of(pixels_N3HW, goal or user_text(rollout.prompt))


def _mean(texts: str | list[str], options: dict[str, Any]) -> Tensor:
    return torch.from_numpy(clip_texts([texts] if isinstance(texts, str) else texts, **options).mean(axis=0))
