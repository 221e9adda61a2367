"""Estimators that weigh rollouts by how hard their prompt is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mmrl.advantages.arrays import (
    Array,
    Whiten,
    as_array,
    centred,
    check_common,
    estimator,
    in_range,
    mixed,
    nanmean,
    rows_of,
    settled,
    spread,
)
from mmrl.advantages.summed import standardised
from mmrl.core.config import InputError


@estimator
def tmn(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    tasks_P: Sequence[Hashable] | None = None,
    alpha: float = 0.5,
    gamma: float = 1.0,
    whiten: Whiten = "none",
    eps: float = 1e-6,
    dead_std: float = 1e-6,
) -> Array:
    """TMN-Reweight (GoLongRL, 2605.19577): the group's mean, the task's scale, and a weight by difficulty.

        sigma_m = sqrt(mean over prompts u of task m of var_u);   c = (r - mean_u) / (sigma_m + eps)
        p_u = share of rollouts above alpha mean_u + (1 - alpha) (mean over prompts of mean_u)
        A = c exp(gamma (1/2 - p_u)) if r > mean_u else c exp(gamma (p_u - 1/2))

    A rare success counts more, a failure on a hard prompt less. `gamma=0` leaves the weights out; the authors' script
    uses `alpha=0.8`. The paper has one reward per task; with several, each is treated so and then weighted and summed
    (inferred). Prompts with fewer than two scores have no part in sigma_m. The weights break the zero mean.
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std)
    in_range("alpha", alpha, low=0, high=1)
    in_range("gamma", gamma, low=0)
    centred_PGK, mean_P1K = centred(rewards_PGK, dead_std), nanmean(rewards_PGK, axis=1)
    variance_P1K, scaled_PGK = np.square(spread(rewards_PGK, axis=1)), np.zeros_like(rewards_PGK)
    for rows in rows_of(tasks_P, len(rewards_PGK), "tasks_P", "tmn").values():
        scale_11K = np.sqrt(np.nan_to_num(nanmean(variance_P1K[rows], axis=0))) + eps
        bar_P1K = alpha * mean_P1K[rows] + (1 - alpha) * nanmean(mean_P1K[rows], axis=0)
        passed_P1K = nanmean(np.where(np.isnan(rewards_PGK[rows]), np.nan, rewards_PGK[rows] > bar_P1K), axis=1)
        lift_P1K = gamma * (0.5 - np.nan_to_num(passed_P1K, nan=0.5))
        sign_PGK = np.where(centred_PGK[rows] > 0, 1.0, -1.0)
        scaled_PGK[rows] = np.exp(sign_PGK * lift_P1K) * centred_PGK[rows] / np.where(scale_11K > 0, scale_11K, 1.0)
    return settled(mixed(scaled_PGK, weights_K), whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


@estimator
def grpo_s(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    hardness_PG: Any = None,
    gaps_PG: Any = None,
    tau: float = 1.0,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Array:
    """GRPO-S (DR-IRL, 2503.18991): GRPO scaled by how hard the data is and how well the model responds.

        A[i,j] = hardness_scale[i,j] * response_scale[i] * (R[i,j] - mean_j R) / (std_j R + eps)

    `hardness_PG` is 1 - similarity to the demonstration, `gaps_PG` the reward of the response less that of the
    demonstration; one of the two must be given, NaN in them scales by 1. Formulas after a summary of the paper. It
    is not the GRPO-S of 2508.04349, which goes by entropy. The scales break the zero mean.
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std)
    if hardness_PG is None and gaps_PG is None:
        raise InputError("grpo_s needs hardness_PG, gaps_PG or both; with neither it is grpo")
    total_PG = mixed(centred(rewards_PGK, dead_std), weights_K)
    scaled_PG = standardised(total_PG, eps=eps, dead_std=dead_std)
    if hardness_PG is not None:
        scaled_PG = scaled_PG * hardness_scale(_shaped(hardness_PG, total_PG, "hardness_PG"))
    if gaps_PG is not None:
        scaled_PG = scaled_PG * response_scale(_shaped(gaps_PG, total_PG, "gaps_PG"), tau=tau)
    return settled(scaled_PG, whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


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
