"""GCPO: the two sides of a preference pair are compared with each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from mmrl.advantages.arrays import Array, flags, nanmean, rows_of, summed
from mmrl.advantages.estimator import estimator


@estimator(without=["own_group", "neutral_abstention"])
def gcpo(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    dead_std: float,
    pairs_P: Sequence[Hashable] | None = None,
    preferred_P: Sequence[bool] | None = None,
    compared_K: Sequence[bool] | None = None,
    failed_PG: Any = None,
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
    prompts, group, kinds = rewards_PGK.shape
    failures_PG = flags(failed_PG, (prompts, group), "failed_PG")
    compared = flags(compared_K, (kinds,), "compared_K", default=True)
    won_PGK = rewards_PGK.copy()
    for own, other, sign in _sides(pairs_P, preferred_P, prompts):
        rivals_GK = np.where(failures_PG[other][:, None], np.nan, rewards_PGK[other])
        won_GK = _won(sign * rewards_PGK[own], sign * rivals_GK, failures_PG[own])
        won_PGK[own] = np.where(compared, won_GK, rewards_PGK[own])
    return summed(won_PGK, weights_K, dead_std)


def _sides(
    pairs_P: Sequence[Hashable] | None, preferred_P: Sequence[bool] | None, prompts: int
) -> Iterator[tuple[int, int, int]]:
    """(row of a side, row of the other side, 1 if the first is preferred, else -1), for both sides of every pair."""
    better_P = flags(preferred_P, (prompts,), "preferred_P")
    for label, rows in rows_of(pairs_P, prompts, "pairs_P", "gcpo").items():
        if label is None:
            continue
        if len(rows) != 2 or better_P[rows].sum() != 1:
            sides = better_P[rows].tolist()
            raise ValueError(f"pair {label!r} has preferred_P={sides}; a pair is two prompts, one of them preferred")
        better, worse = rows[np.argsort(~better_P[rows])]
        yield better, worse, 1
        yield worse, better, -1


def _won(own_GK: Array, rivals_HK: Array, failed_G: Array) -> Array:
    """[G, K]: the share of the rivals given that each chain scores strictly above; 0 for a chain that failed."""
    against_GHK = np.where(np.isnan(rivals_HK), np.nan, own_GK[:, None] > rivals_HK)
    share_GK = np.where(np.isnan(own_GK), np.nan, nanmean(against_GHK, axis=1)[:, 0])
    return np.where(failed_G[:, None], 0.0, share_GK)
