"""CRD, centred reward distillation (2603.14128): implicit rewards of a policy follow the real ones within a prompt.

The log-ratio of two flow models is replaced by the difference of their errors on noised samples. No trajectory is kept,
and any sampler may make the pictures. The samples of a prompt stand next to each other; a batch holds whole groups.
"""

from __future__ import annotations

from torch import Tensor

from mmrl.model.flow.process import squared_error

SMALLEST_ERROR = 1e-5


def implicit_reward(velocity: Tensor, old: Tensor, target: Tensor, *, adaptive: bool = True) -> Tensor:
    """[N]: how much nearer to `target` = e - x_0 the policy's velocity is than the old policy's.

        r = -(|v - u|^2 - |v_old - u|^2);   adaptive: each square is divided by its own mean absolute error

    The mean over dimensions is taken. The adaptive form keeps early and late times alike in size.
    """
    return _error(old, target, adaptive) - _error(velocity, target, adaptive)


def _error(made: Tensor, target: Tensor, adaptive: bool) -> Tensor:
    squares = squared_error(made, target)
    if not adaptive:
        return squares
    return squares / (made.detach() - target).float().abs().flatten(1).mean(dim=1).clamp(min=SMALLEST_ERROR)


def scaled_reward(advantage_N: Tensor, *, clip: float = 5.0) -> Tensor:
    """[N] in [0, 1]: advantages within `clip` on both sides, moved to the unit interval."""
    return (advantage_N.clamp(-clip, clip) / clip / 2 + 0.5).clamp(0, 1)


def centred_loss(implicit_N: Tensor, reward_N: Tensor, group: int, *, beta: float = 1.0, clip: float = 5.0) -> Tensor:
    """mean_i [beta (r_i - sg mean r) - (R_i - mean R)]^2 clip / beta, with means over the samples of a prompt.

    Subtracting the means removes the prompt's partition function, which nobody knows.
    """
    implicit_PG, reward_PG = implicit_N.reshape(-1, group), reward_N.reshape(-1, group)
    mine_PG = implicit_PG - implicit_PG.detach().mean(dim=1, keepdim=True)
    wanted_PG = reward_PG - reward_PG.mean(dim=1, keepdim=True)
    return (beta * mine_PG - wanted_PG).square().mean() * clip / beta


def anchor_loss(velocity: Tensor, pretrained: Tensor, reward_N: Tensor, *, weight: float = 0.1) -> Tensor:
    """weight * mean_i (m + R_i (1 - m)) |v - v_pre|^2, m = 1e-4 / weight: the pull to the pretrained model.

    It is strongest on samples of high reward, where a policy drifts. With a guided `pretrained` velocity, guidance is
    distilled into the policy. Weight 0 gives 0.
    """
    if not weight:
        return velocity.new_zeros(())
    least = 1e-4 / weight
    return weight * ((least + reward_N * (1 - least)) * squared_error(velocity, pretrained.detach())).mean()


def old_decay(steps: int) -> float:
    """How much of itself the old policy keeps at a snapshot: min(0.25 + 0.005 steps, 0.999)."""
    return min(0.25 + 0.005 * steps, 0.999)


def sampling_decay(steps: int) -> float:
    """The same for the policy that samples: 0 up to step 75, then min(0.0075 (steps - 75), 0.999)."""
    return min(0.0075 * max(steps - 75, 0), 0.999)
