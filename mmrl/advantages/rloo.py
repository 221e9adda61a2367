"""RLOO: each rollout against the mean of the others."""

from __future__ import annotations

import numpy as np

from mmrl.advantages.arrays import Array, centred, mixed
from mmrl.advantages.estimator import estimator


@estimator(without=["scale_free"])
def rloo(rewards_PGK: Array, weights_K: Array, *, dead_std: float) -> Array:
    """RLOO (2402.14740): what a rollout earns above the mean of the others of its group.

        A[i,j] = sum_k w_k (r_k[i,j] - mean_{l != j} r_k[i,l]) = sum_k w_k n/(n-1) (r_k[i,j] - mean_l r_k[i,l])

    n counts the rollouts of the group that have reward k.
    """
    count_P1K = (~np.isnan(rewards_PGK)).sum(axis=1, keepdims=True)
    left_out_PGK = centred(rewards_PGK, dead_std) * (count_P1K / np.maximum(count_P1K - 1, 1))
    return mixed(left_out_PGK, weights_K)
