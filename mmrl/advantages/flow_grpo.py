"""Flow-GRPO's advantages: centred in the group, scaled by the whole batch, bounded."""

from __future__ import annotations

import numpy as np

from mmrl.advantages.arrays import Array, centred, in_range, mixed, nanmean, spread, summed
from mmrl.advantages.estimator import estimator


@estimator(without=["zero_sum", "own_group", "scale_free"])
def flow_grpo(rewards_PGK: Array, weights_K: Array, *, eps: float, dead_std: float, clip: float = 5.0) -> Array:
    """Flow-GRPO (2505.05470, released code): the group's mean is the baseline, the batch's spread is the scale.

        R[i,j] = sum_k w_k r_k[i,j];   A[i,j] = clip((R[i,j] - mean_j R) / (std_ij R + eps), -clip, clip)

    The standard deviation is the population's over all rollouts of the batch, so a group whose rollouts hardly differ
    gets small advantages. `clip` bounds the advantage on both sides. An abstention counts as the group's mean.
    """
    in_range("clip", clip, low=0)
    gaps_PG = centred(summed(rewards_PGK, weights_K, dead_std), dead_std)
    levels_PG = mixed(nanmean(rewards_PGK, axis=1), weights_K) + gaps_PG
    scale = spread(levels_PG, ddof=0) + eps
    return np.clip(gaps_PG / np.where(scale > 0, scale, np.inf), -clip, clip)
