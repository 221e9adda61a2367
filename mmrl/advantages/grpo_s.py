"""GRPO-S: GRPO scaled by how hard the data is and how well the model responds."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmrl.advantages.arrays import Array, as_array, in_range, nanmean, standardised, summed
from mmrl.advantages.estimator import estimator
from mmrl.core.config import InputError


@estimator(without=["zero_sum", "neutral_abstention"])
def grpo_s(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    eps: float,
    dead_std: float,
    hardness_PG: Any = None,
    gaps_PG: Any = None,
    tau: float = 1.0,
) -> Array:
    """GRPO-S (DR-IRL, 2503.18991): GRPO scaled by how hard the data is and how well the model responds.

        A[i,j] = hardness_scale[i,j] * response_scale[i] * (R[i,j] - mean_j R) / (std_j R + eps)

    `hardness_PG` is 1 - similarity to the demonstration, which the reward `clause_similarity` gives in a training;
    `gaps_PG` is the reward of the response less that of the demonstration, from `mmrl data score`. One of the two must
    be given; NaN in them scales by 1. Gaps whose squared distance from the group's
    mean is above `tau` count as outliers. Formulas after a summary of the paper. It is not the GRPO-S of 2508.04349,
    which goes by entropy. The scales break the zero mean.
    """
    if hardness_PG is None and gaps_PG is None:
        raise InputError("grpo_s needs hardness_PG, gaps_PG or both; with neither it is grpo")
    scaled_PG = standardised(summed(rewards_PGK, weights_K, dead_std), eps=eps, dead_std=dead_std)
    if hardness_PG is not None:
        scaled_PG = scaled_PG * hardness_scale(_shaped(hardness_PG, scaled_PG, "hardness_PG"))
    if gaps_PG is not None:
        scaled_PG = scaled_PG * response_scale(_shaped(gaps_PG, scaled_PG, "gaps_PG"), tau=tau)
    return scaled_PG


def hardness_scale(hardness_PG: Array) -> Array:
    """[P, G]: the logistic of each rollout's hardness over that of its group's mean; 1 where it is NaN.

    >>> hardness_scale(np.array([[0.2, 0.4, 0.9]])).round(6).tolist()
    [[0.883325, 0.96181, 1.142162]]
    """
    return np.nan_to_num(_logistic(hardness_PG) / _logistic(nanmean(hardness_PG, axis=1)), nan=1.0)


def response_scale(gaps_PG: Array, *, tau: float = 1.0) -> Array:
    """[P, 1]: the logistic of the mean gap without outliers (squared distance above tau) over that with them.

    1 where nothing is left (inferred).

    >>> response_scale(np.array([[0.5, 0.6, 0.4, 3.0]])).round(7).tolist()
    [[0.8245423]]
    """
    in_range("tau", tau, low=0)
    mean_P1 = nanmean(gaps_PG, axis=1)
    kept_PG = np.where(np.square(gaps_PG - mean_P1) <= tau, gaps_PG, np.nan)
    return np.nan_to_num(_logistic(nanmean(kept_PG, axis=1)) / _logistic(mean_P1), nan=1.0)


def _shaped(values: Any, total_PG: Array, name: str) -> Array:
    array = as_array(values)
    if array.shape != total_PG.shape or np.isinf(array).any():
        raise ValueError(f"{name} has the shape {array.shape}; must be {total_PG.shape}, finite or NaN")
    return array


def _logistic(values: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(values / 2)
