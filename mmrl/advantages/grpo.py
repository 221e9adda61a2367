"""GRPO and Dr. GRPO: the weighted sum of rewards against its mean in the group."""

from __future__ import annotations

from mmrl.advantages.arrays import Array, centred, standardised, summed
from mmrl.advantages.estimator import estimator


@estimator()
def grpo(
    rewards_PGK: Array, weights_K: Array, *, eps: float, dead_std: float, scale: bool = True, ddof: int = 1
) -> Array:
    """GRPO (DeepSeekMath, 2402.03300, section 4.1.2): the weighted sum of rewards, standardised within the group.

        R[i,j] = sum_k w_k r_k[i,j];   A[i,j] = (R[i,j] - mean_j R) / (std_j R + eps)

    Equal to TRL's default (`sum_then_normalize`) where nothing abstains. An abstention counts as the group's mean of
    that reward; TRL counts it as 0, which is a penalty. `ddof=0` divides by the population's standard deviation,
    `scale=False` does not divide.
    """
    total_PG = summed(rewards_PGK, weights_K, dead_std)
    scaled_PG = standardised(total_PG, eps=eps, dead_std=dead_std, ddof=ddof)
    return centred(scaled_PG if scale else total_PG, dead_std)


@estimator(without=["scale_free"])
def dr_grpo(rewards_PGK: Array, weights_K: Array, *, dead_std: float) -> Array:
    """Dr. GRPO (2503.20783): GRPO without the division, which favours prompts that are nearly always right or wrong.

        A[i,j] = R[i,j] - mean_j R

    The paper's other half, a loss that does not divide by the length, is TRL's `loss_type: dr_grpo`.
    """
    return centred(summed(rewards_PGK, weights_K, dead_std), dead_std)
