"""ViSurf: the gold answer as one more rollout of its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmrl.advantages.arrays import Array, flags, in_range, mixed, nanmean, standardised
from mmrl.advantages.estimator import estimator


@estimator(eps=1e-6, without=["neutral_abstention"])
def visurf(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    eps: float,
    dead_std: float,
    injected_PG: Any = None,
    thinking_K: Sequence[bool] | None = None,
    smooth: bool = True,
    cap: float | None = None,
    ddof: int = 1,
) -> Array:
    """ViSurf (2510.10606, eq. 6-9): the label y is one more rollout of its group, which goes by GRPO.

        A_j = (r(o_j) - mean R) / (std R + eps);   A_y = (r(y) - mean R) / (std R + eps);   R = {r(o_1..G), r(y)}

    `injected_PG` marks the label, at most one in a group; a group without one is plain GRPO. Of the three reward
    controls the first, a label written in the style of the model, is the caller's. The second: the label shows no
    thinking, so rewards that are True in `thinking_K` give it 0. The third (`smooth`): where a rollout's total reaches
    the label's, the label gets the mean of the rollouts, and so an advantage of exactly 0. `smooth=False` and no
    `thinking_K` is plain injection. `cap` limits the label's advantage, which grows with the group (inferred).
    `ddof` is that of `grpo`.
    """
    label_PG = flags(injected_PG, rewards_PGK.shape[:2], "injected_PG")
    if (label_PG.sum(axis=1) > 1).any():
        raise ValueError(f"injected_PG marks {label_PG.sum(axis=1).max()} rows of a group; at most one is the label")
    silent_K = flags(thinking_K, weights_K.shape, "thinking_K")
    total_PG = _totals(np.where(label_PG[..., None] & silent_K, 0.0, rewards_PGK), weights_K, label_PG)
    smoothed_PG = label_PG & (_reached(total_PG, label_PG, dead_std) if smooth else False)
    mean_P1 = nanmean(np.where(label_PG, np.nan, total_PG), axis=1)
    total_PG = np.where(smoothed_PG, mean_P1, total_PG)
    advantages_PG = np.where(smoothed_PG, 0.0, standardised(total_PG, eps=eps, dead_std=dead_std, ddof=ddof))
    if cap is None:
        return advantages_PG
    in_range("cap", cap, low=0)
    return np.where(label_PG, np.clip(advantages_PG, -cap, cap), advantages_PG)


def _totals(values_PGK: Array, weights_K: Array, label_PG: Array) -> Array:
    """[P, G]: weighted sums of rewards less their mean over the rollouts.

    A reward that no rollout has cannot tell the label from them, and is left out.
    """
    rollouts_P1K = nanmean(np.where(label_PG[..., None], np.nan, values_PGK), axis=1)
    return mixed(np.where(np.isnan(rollouts_P1K), np.nan, values_PGK - rollouts_P1K), weights_K)


def _reached(total_PG: Array, label_PG: Array, dead_std: float) -> Array:
    """[P, 1]: whether a rollout's total reaches that of the label."""
    missing_PG = np.isnan(total_PG)
    best_P1 = np.max(np.where(label_PG | missing_PG, -np.inf, total_PG), axis=1, keepdims=True)
    label_P1 = np.min(np.where(label_PG & ~missing_PG, total_PG, np.inf), axis=1, keepdims=True)
    return label_P1 - best_P1 <= dead_std
