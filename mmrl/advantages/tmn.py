"""TMN-Reweight: the task's scale, and weights by how hard a prompt is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mmrl.advantages.arrays import Array, centred, in_range, mixed, nanmean, rows_of, spread
from mmrl.advantages.estimator import estimator


@estimator(eps=1e-6, without=["zero_sum", "neutral_abstention"])
def tmn(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    tasks_P: Sequence[Hashable] | None,
    eps: float,
    dead_std: float,
    alpha: float = 0.5,
    gamma: float = 1.0,
) -> Array:
    """TMN-Reweight (GoLongRL, 2605.19577): the group's mean, the task's scale, and a weight by difficulty.

        sigma_m = sqrt(mean over prompts u of task m of var_u);   c = (r - mean_u) / (sigma_m + eps)
        p_u = share of rollouts above alpha mean_u + (1 - alpha) (mean over prompts of mean_u)
        A = c exp(gamma (1/2 - p_u)) if r > mean_u else c exp(gamma (p_u - 1/2))

    A rare success counts more, a failure on a hard prompt less. `gamma=0` leaves the weights out; the authors' script
    uses `alpha=0.8`. The paper has one reward per task; with several, each is treated so and then weighted and summed
    (inferred). Prompts with fewer than two scores have no part in sigma_m. The weights break the zero mean.
    """
    in_range("alpha", alpha, low=0, high=1)
    in_range("gamma", gamma, low=0)
    scaled_PGK = np.zeros_like(rewards_PGK)
    for rows in rows_of(tasks_P, len(rewards_PGK), "tasks_P", "tmn").values():
        scores_PGK, centred_PGK = rewards_PGK[rows], centred(rewards_PGK[rows], dead_std)
        scale_11K = np.sqrt(np.nan_to_num(nanmean(np.square(spread(scores_PGK, axis=1)), axis=0))) + eps
        weights_PGK = np.exp(np.where(centred_PGK > 0, 1.0, -1.0) * gamma * (0.5 - _passed(scores_PGK, alpha)))
        scaled_PGK[rows] = weights_PGK * centred_PGK / np.where(scale_11K > 0, scale_11K, 1.0)
    return mixed(scaled_PGK, weights_K)


def _passed(scores_PGK: Array, alpha: float) -> Array:
    """[P, 1, K]: p_u of the prompts of one task; 1/2, and so no weight, where nothing was scored."""
    mean_P1K = nanmean(scores_PGK, axis=1)
    bar_P1K = alpha * mean_P1K + (1 - alpha) * nanmean(mean_P1K, axis=0)
    passed_P1K = nanmean(np.where(np.isnan(scores_PGK), np.nan, scores_PGK > bar_P1K), axis=1)
    return np.nan_to_num(passed_P1K, nan=0.5)
