"""GDPO and c-GDPO: each reward is standardised on its own before the rewards are summed."""

from __future__ import annotations

import numpy as np

from mmrl.advantages.arrays import Array, centred, mixed, spread
from mmrl.advantages.estimator import estimator


@estimator(whiten="batch")
def gdpo(rewards_PGK: Array, weights_K: Array, *, eps: float, dead_std: float) -> Array:
    """GDPO (2601.05242, eq. 4-7): each reward standardised within its group, weighted, summed, whitened over the batch.

        A_k[i,j] = (r_k[i,j] - mean_j r_k) / (std_j r_k + eps);   S = sum_k w_k A_k
        A[i,j]   = (S[i,j] - mean_batch S) / (std_batch S + eps)

    Equal to TRL's `normalize_then_sum` where nothing abstains and no group is dead. `whiten="task"` standardises per
    task, so that a task with four live rewards does not outweigh a task with one; it needs `tasks_P`.
    """
    return _summed(rewards_PGK, weights_K, eps, dead_std)


@estimator()
def c_gdpo(rewards_PGK: Array, weights_K: Array, *, eps: float, dead_std: float) -> Array:
    """c-GDPO (BalCapRL, 2605.07394): GDPO for continuous rewards, without the step over the batch.

        A[i,j] = sum_k w_k (r_k[i,j] - mean_j r_k) / (std_j r_k + eps)

    Whether a step over the batch follows is not stated in the paper; `whiten` puts it back.
    """
    return _summed(rewards_PGK, weights_K, eps, dead_std)


def _summed(rewards_PGK: Array, weights_K: Array, eps: float, dead_std: float) -> Array:
    """[P, G]: S, the weighted sum of the rewards standardised within their group."""
    scale_P1K = np.nan_to_num(spread(rewards_PGK, axis=1)) + eps
    z_PGK = centred(rewards_PGK, dead_std) / np.where(scale_P1K > 0, scale_P1K, 1.0)
    return mixed(z_PGK, weights_K)
