"""Reward vectors to advantages: pure functions of tensors.

Shapes: P prompts, G rollouts of a prompt (a group), K rewards. NaN marks an abstention. A rollout that misses a reward
gets neither a bonus nor a penalty from it, and a rollout that misses all of them gets advantage 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Whiten = Literal["batch", "task", "none"]


def grpo(
    rewards_PGK: Tensor, weights_K: Tensor, *, scale: bool = True, eps: float = 1e-4, dead_std: float = 1e-6
) -> Tensor:
    """GRPO (DeepSeekMath, 2402.03300, section 4.1.2): the weighted sum of rewards, standardised within the group.

    Equal to TRL's default (`sum_then_normalize`) where nothing abstains. An abstention counts as the group's mean of
    that reward; TRL counts it as 0, which is a penalty. `scale=False` leaves the division by the standard deviation out
    (Dr. GRPO, 2503.20783). Returns [P, G].
    """
    centred_PGK = _without_dead(rewards_PGK - rewards_PGK.nanmean(dim=1, keepdim=True), rewards_PGK, dead_std)
    total_PG = (centred_PGK * weights_K).nansum(dim=-1)
    total_PG = total_PG.masked_fill(_unscored(rewards_PGK), float("nan"))
    centred_PG = total_PG - total_PG.nanmean(dim=1, keepdim=True)
    std_P1 = _nanstd(total_PG, dim=1)
    advantages_PG = centred_PG / (std_P1 + eps) if scale else centred_PG
    return advantages_PG.masked_fill(std_P1 <= dead_std, 0.0).nan_to_num(nan=0.0)


def gdpo(
    rewards_PGK: Tensor,
    weights_K: Tensor,
    *,
    whiten: Whiten = "batch",
    tasks_P: Sequence[str] | None = None,
    eps: float = 1e-4,
    dead_std: float = 1e-6,
) -> Tensor:
    """GDPO (2601.05242, eq. 4-7): each reward standardised within its group, weighted, summed, whitened over the batch.

    Equal to TRL's `normalize_then_sum` where nothing abstains and no group is dead. `whiten="task"` standardises per
    task, so that a task with four live rewards does not outweigh a task with one; it needs `tasks_P`. Returns [P, G].
    """
    centred_PGK = _without_dead(rewards_PGK - rewards_PGK.nanmean(dim=1, keepdim=True), rewards_PGK, dead_std)
    z_PGK = centred_PGK / (_nanstd(rewards_PGK, dim=1).nan_to_num(nan=0.0) + eps)
    mixed_PG = (z_PGK * weights_K).nansum(dim=-1).masked_fill(_unscored(rewards_PGK), float("nan"))
    dead_P1 = (_nanstd(mixed_PG, dim=1) > dead_std).logical_not()  # also true where the spread is NaN
    return _whitened(mixed_PG, whiten, tasks_P, eps=eps).masked_fill(dead_P1, 0.0).nan_to_num(nan=0.0)


ADVANTAGES: dict[str, Callable[..., Tensor]] = {"grpo": grpo, "gdpo": gdpo}


def dead_groups(rewards_PGK: Tensor, *, dead_std: float = 1e-6) -> Tensor:
    """[P, K]: True where a reward says nothing about a group: constant, or given for fewer than two rollouts."""
    return (_nanstd(rewards_PGK, dim=1)[:, 0] > dead_std).logical_not()


def _unscored(rewards_PGK: Tensor) -> Tensor:
    return rewards_PGK.isnan().all(dim=-1)


def _without_dead(centred_PGK: Tensor, rewards_PGK: Tensor, dead_std: float) -> Tensor:
    """Exactly 0 where a reward is constant in its group: float noise divided by a tiny spread is not a signal."""
    dead_P1K = dead_groups(rewards_PGK, dead_std=dead_std).unsqueeze(1)
    return centred_PGK.masked_fill(dead_P1K & ~rewards_PGK.isnan(), 0.0)


def _whitened(mixed_PG: Tensor, whiten: Whiten, tasks_P: Sequence[str] | None, *, eps: float) -> Tensor:
    if whiten == "none":
        return mixed_PG
    if whiten == "batch":
        return (mixed_PG - mixed_PG.nanmean()) / (_nanstd(mixed_PG.reshape(-1), dim=0) + eps)
    if whiten != "task":
        raise ValueError(f"whiten={whiten!r}; known: batch, task, none")
    if tasks_P is None:
        raise ValueError("whiten='task' needs tasks_P, the task of each prompt")
    whitened_PG = torch.full_like(mixed_PG, float("nan"))
    for task in sorted(set(tasks_P)):
        rows = torch.tensor([name == task for name in tasks_P], device=mixed_PG.device)
        whitened_PG[rows] = _whitened(mixed_PG[rows], "batch", None, eps=eps)
    return whitened_PG


def _nanstd(values: Tensor, *, dim: int) -> Tensor:
    """Unbiased standard deviation over `dim` (kept) of what is not NaN; NaN for fewer than two values."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    centred = values - values.nanmean(dim=dim, keepdim=True)
    return (centred.square().nansum(dim=dim, keepdim=True) / (count - 1)).sqrt().masked_fill(count < 2, float("nan"))
