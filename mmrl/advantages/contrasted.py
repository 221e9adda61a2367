"""Estimators that compare rollouts with more than their own group: the other side of a pair, or the label."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mmrl.advantages.arrays import (
    Array,
    Whiten,
    centred,
    check_common,
    estimator,
    flags,
    in_range,
    mixed,
    nanmean,
    rows_of,
    settled,
)
from mmrl.advantages.summed import standardised


@estimator
def gcpo(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    pairs_P: Sequence[Hashable] | None = None,
    preferred_P: Sequence[bool] | None = None,
    compared_K: Sequence[bool] | None = None,
    failed_PG: Any = None,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Array:
    """GCPO (Edit-R1, 2604.27505): a verifier's chains on the preferred side of a pair against those on the other.

        r_w[j] = share of the other side's chains that chain j of the preferred side scores strictly above
        r_l[j] = share of the preferred side's chains that chain j of the other side scores strictly below
        A = r - mean_j r on each side, with no division

    Two prompts are a pair if they have the same label in `pairs_P`; `preferred_P` is True for the one people prefer.
    A prompt labelled None is in no pair, and its rewards are centred as by `dr_grpo`, as are rewards that are False in
    `compared_K` (a format reward, say: all are compared by default). `failed_PG` marks chains without a readable score:
    they lose every comparison, and nobody is compared with them (inferred). A NaN score is not compared at all.
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std)
    prompts, group, kinds = rewards_PGK.shape
    failures_PG = flags(failed_PG, (prompts, group), "failed_PG")
    competing_K = flags(compared_K, (kinds,), "compared_K", default=True)
    better_P = flags(preferred_P, (prompts,), "preferred_P")
    won_PGK = rewards_PGK.copy()
    for label, rows in rows_of(pairs_P, prompts, "pairs_P", "gcpo").items():
        if label is None:
            continue
        if len(rows) != 2 or better_P[rows].sum() != 1:
            sides = better_P[rows].tolist()
            raise ValueError(f"pair {label!r} has preferred_P={sides}; a pair is two prompts, one of them preferred")
        better, worse = rows[np.argsort(~better_P[rows])]
        for own, other, sign in ((better, worse, 1), (worse, better, -1)):
            rivals_GK = np.where(failures_PG[other][:, None], np.nan, rewards_PGK[other])
            won_GK = _won(sign * rewards_PGK[own], sign * rivals_GK, failures_PG[own])
            won_PGK[own] = np.where(competing_K, won_GK, rewards_PGK[own])
    return settled(
        mixed(centred(won_PGK, dead_std), weights_K), whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std
    )


@estimator
def visurf(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    injected_PG: Any = None,
    thinking_K: Sequence[bool] | None = None,
    smooth: bool = True,
    cap: float | None = None,
    ddof: int = 1,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-6,
    dead_std: float = 1e-6,
) -> Array:
    """ViSurf (2510.10606, eq. 6-9): the label y is one more rollout of its group, which goes by GRPO.

        A_j = (r(o_j) - mean R) / (std R + eps);   A_y = (r(y) - mean R) / (std R + eps);   R = {r(o_1..G), r(y)}

    `injected_PG` marks the label, at most one in a group; a group without one is plain GRPO. Of the three reward
    controls the first, a label written in the style of the model, is the caller's. The second: the label shows no
    thinking, so rewards that are True in `thinking_K` give it 0. The third (`smooth`): where a rollout's total reaches
    the label's, the label gets the mean of the rollouts, and so an advantage of exactly 0. `smooth=False` and no
    `thinking_K` is plain injection. `cap` limits the label's advantage, which grows with the group (inferred).
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std, ddof=ddof)
    label_PG = flags(injected_PG, rewards_PGK.shape[:2], "injected_PG")
    if (label_PG.sum(axis=1) > 1).any():
        raise ValueError(f"injected_PG marks {label_PG.sum(axis=1).max()} rows of a group; at most one is the label")
    if cap is not None:
        in_range("cap", cap, low=0)
    label_PG1, silent_K = label_PG[..., None], flags(thinking_K, weights_K.shape, "thinking_K")
    values_PGK = np.where(label_PG1 & silent_K, 0.0, rewards_PGK)
    rollouts_P1K = nanmean(np.where(label_PG1, np.nan, values_PGK), axis=1)
    # A reward that no rollout has cannot tell the label from them.
    total_PG = mixed(np.where(np.isnan(rollouts_P1K), np.nan, values_PGK - rollouts_P1K), weights_K)
    smoothed_P1 = np.zeros((len(total_PG), 1), dtype=bool)
    if smooth:
        best_P1 = np.max(np.where(label_PG | np.isnan(total_PG), -np.inf, total_PG), axis=1, keepdims=True)
        smoothed_P1 = (np.where(label_PG & ~np.isnan(total_PG), total_PG, np.inf) - best_P1).min(
            axis=1, keepdims=True
        ) <= dead_std
    mean_P1 = nanmean(np.where(label_PG, np.nan, total_PG), axis=1)
    total_PG = np.where(label_PG & smoothed_P1, mean_P1, total_PG)
    advantages_PG = standardised(total_PG, eps=eps, dead_std=dead_std, ddof=ddof)
    advantages_PG = np.where(label_PG & smoothed_P1, 0.0, advantages_PG)
    if cap is not None:
        advantages_PG = np.where(label_PG, np.clip(advantages_PG, -cap, cap), advantages_PG)
    return settled(advantages_PG, whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


def _won(own_GK: Array, rivals_HK: Array, failed_G: Array) -> Array:
    """[G, K]: the share of the rivals given that each chain scores strictly above; 0 for a chain that failed."""
    against_GHK = np.where(np.isnan(rivals_HK), np.nan, own_GK[:, None] > rivals_HK)
    share_GK = np.where(np.isnan(own_GK), np.nan, nanmean(against_GHK, axis=1)[:, 0])
    return np.where(failed_G[:, None], 0.0, share_GK)
