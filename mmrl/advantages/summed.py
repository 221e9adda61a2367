"""Estimators that sum the rewards of a rollout first: GRPO and its relatives."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mmrl.advantages.arrays import Array, Whiten, centred, check_common, estimator, mixed, nanmean, settled, spread


@estimator
def grpo(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    scale: bool = True,
    ddof: int = 1,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Array:
    """GRPO (DeepSeekMath, 2402.03300, section 4.1.2): the weighted sum of rewards, standardised within the group.

        R[i,j] = sum_k w_k r_k[i,j];   A[i,j] = (R[i,j] - mean_j R) / (std_j R + eps)

    Equal to TRL's default (`sum_then_normalize`) where nothing abstains. An abstention counts as the group's mean of
    that reward; TRL counts it as 0, which is a penalty. `ddof=0` divides by the population's standard deviation.
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std, ddof=ddof)
    total_PG = mixed(centred(rewards_PGK, dead_std), weights_K)
    advantages_PG = standardised(total_PG, eps=eps, dead_std=dead_std, ddof=ddof) if scale else total_PG
    return settled(centred(advantages_PG, dead_std), whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


@estimator
def dr_grpo(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Array:
    """Dr. GRPO (2503.20783): GRPO without the division, which favours prompts that are nearly always right or wrong.

        A[i,j] = R[i,j] - mean_j R

    The paper's other half, a loss that does not divide by the length, is TRL's `loss_type: dr_grpo`.
    """
    return grpo(rewards_PGK, weights_K, scale=False, whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


@estimator
def rloo(
    rewards_PGK: Array,
    weights_K: Array,
    *,
    whiten: Whiten = "none",
    tasks_P: Sequence[Hashable] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Array:
    """RLOO (2402.14740): what a rollout earns above the mean of the others of its group.

        A[i,j] = sum_k w_k (r_k[i,j] - mean_{l != j} r_k[i,l]) = sum_k w_k n/(n-1) (r_k[i,j] - mean_l r_k[i,l])

    n counts the rollouts of the group that have reward k.
    """
    check_common(whiten=whiten, eps=eps, dead_std=dead_std)
    count_P1K = (~np.isnan(rewards_PGK)).sum(axis=1, keepdims=True)
    left_out_PGK = centred(rewards_PGK, dead_std) * (count_P1K / np.maximum(count_P1K - 1, 1))
    return settled(mixed(left_out_PGK, weights_K), whiten=whiten, tasks_P=tasks_P, eps=eps, dead_std=dead_std)


def standardised(total_PG: Array, *, eps: float, dead_std: float, ddof: int = 1) -> Array:
    """Totals less their group's mean, over their spread; 0 in a dead group, NaN where nothing was scored."""
    std_P1 = spread(total_PG, axis=1, ddof=ddof)
    alive_P1 = std_P1 > dead_std
    z_PG = (total_PG - nanmean(total_PG, axis=1)) / (np.where(alive_P1, std_P1, 1.0) + eps)
    return np.where(alive_P1 | np.isnan(total_PG), z_PG, 0.0)
