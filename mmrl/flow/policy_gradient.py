"""Losses on the steps of sampled trajectories: Flow-GRPO, DenseGRPO and PRDP."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrl.advantages.arrays import as_array, centred, standardised


def clipped_loss(log_prob_N: Tensor, drawn_N: Tensor, advantage_N: Tensor, *, clip: float = 1e-4) -> Tensor:
    """PPO's clipped objective of one step (Flow-GRPO, 2505.05470), negated, averaged over samples.

    Log-densities are means over latent dimensions, so ratios lie very near 1 and `clip` is tiny.
    """
    ratio_N = torch.exp(log_prob_N - drawn_N)
    bounded_N = ratio_N.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio_N * advantage_N, bounded_N * advantage_N).mean()


def gains(reward_TN: Tensor) -> Tensor:
    """[T, N]: what each step adds to the reward of the clean picture its latent leads to (DenseGRPO, 2601.20218).

    `reward_TN` has T + 1 rows, from pure noise to the clean picture. The gains of a trajectory add up to the last
    reward less the first.
    """
    return reward_TN[1:] - reward_TN[:-1]


def dense_advantages(
    gain_TN: Tensor, group: int, *, eps: float = 1e-4, ddof: int = 1, dead_std: float = 1e-6
) -> Tensor:
    """[T, N]: gains standardised over the samples of a prompt at the same step (DenseGRPO, 2601.20218).

        A[t,i] = (dR[t,i] - mean_i dR[t]) / (std_i dR[t] + eps)

    Samples of one prompt stand next to each other. A step at which all gain the same gets exactly 0.
    """
    gain_PG = as_array(gain_TN).reshape(-1, group)  # each row is a prompt at one step
    scaled_PG = centred(standardised(gain_PG, eps=eps, dead_std=dead_std, ddof=ddof), dead_std)
    return gain_TN.new_tensor(scaled_PG).reshape(gain_TN.shape)


def adapted_levels(level_T: Tensor, gain_TN: Tensor, *, rate: float = 0.05, balance: float = 0.5) -> Tensor:
    """[T]: the noise levels of the next batch (DenseGRPO, 2601.20218).

    A step whose gains are about equally often positive and negative may take more noise, any other step takes less.

    INFERRED: the paper gives no figures. "About equally" is a difference of the two shares below `balance`; a level
    moves by the factor 1 + `rate` or 1 - `rate`.
    """
    share_T = (gain_TN > 0).float().mean(dim=1) - (gain_TN < 0).float().mean(dim=1)
    return level_T * torch.where(share_T.abs() < balance, 1 + rate, 1 - rate).to(level_T)


def proximal_difference_loss(
    ratio_TN: Tensor, snapshot_TN: Tensor, reward_N: Tensor, *, beta: float, eps: float = 0.05
) -> Tensor:
    """PRDP (2402.08714): the difference of two samples' log-ratios must be that of their rewards over `beta`.

        L = max([(h_a - h_b) - (r_a - r_b) / beta]^2, the same with each step's log-ratio within eps of the snapshot's)

    h is the sum over steps of log p_theta / p_ref, `ratio_TN`; `snapshot_TN` are those of the policy that sampled. Rows
    2i and 2i + 1 are samples of one prompt. Averaged over pairs.
    """
    near_TN = torch.minimum(torch.maximum(ratio_TN, snapshot_TN - eps), snapshot_TN + eps)
    target = (reward_N[0::2] - reward_N[1::2]) / beta
    free, bounded = (
        (total[0::2] - total[1::2] - target).square() for total in (ratio_TN.sum(dim=0), near_TN.sum(dim=0))
    )
    return torch.maximum(free, bounded).mean()
