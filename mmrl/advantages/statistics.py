"""What the advantages of a step are made of, per reward and per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmrl.advantages.arrays import Array, as_array, centred, dead_groups, mixed, nanmean, rows_of, spread


def statistics(
    rewards_PGK: Any,
    advantages_PG: Any,
    names: Sequence[str],
    tasks_P: Sequence[str] | None = None,
    *,
    weights_K: Any = None,
    dead_std: float = 1e-6,
) -> dict[str, float]:
    """Numbers to log, by name: `rewards/NAME/...`, and, with `tasks_P`, `tasks/TASK/...` and `tasks/TASK/NAME/...`.

    `abstained`: the share of rollouts without a score (for a task: without any). `dead_groups`: the share of groups of
    which the reward says nothing (for a task: no reward does). `gradient_share` of a task: its part of the absolute
    advantages. `gradient_share` of a reward: the part of the advantages' sum of squares that it explains in a
    least-squares fit on the rewards standardised per group, below 0 for a reward that the others overrule. A reward
    that a task never has is left out of the task. With `weights_K`, a task's `reward` is the mean of its weighted sums,
    and a group in which only rewards of weight 0 differ is dead.
    """
    rewards, advantages = as_array(rewards_PGK), as_array(advantages_PG)
    if rewards.ndim != 3 or rewards.shape[2] != len(names) or advantages.shape != rewards.shape[:2]:
        raise ValueError(f"rewards {rewards.shape} and advantages {advantages.shape} do not fit {len(names)} rewards")
    numbers = {f"rewards/{key}": value for key, value in _by_reward(rewards, advantages, names, dead_std).items()}
    if tasks_P is None:
        return numbers
    counted = np.full(len(names), True) if weights_K is None else as_array(weights_K) != 0
    whole = np.abs(advantages).sum()
    for task, rows in rows_of(tasks_P, len(rewards), "tasks_P", "statistics").items():
        part, missing = rewards[rows], np.isnan(rewards[rows])
        numbers[f"tasks/{task}/dead_groups"] = float(
            dead_groups(part[..., counted], dead_std=dead_std).all(axis=1).mean()
        )
        numbers[f"tasks/{task}/abstained"] = float(missing.all(axis=-1).mean())
        numbers[f"tasks/{task}/gradient_share"] = float(np.abs(advantages[rows]).sum() / whole) if whole else 0.0
        if weights_K is not None:
            numbers[f"tasks/{task}/reward"] = float(nanmean(mixed(part, as_array(weights_K))).item())
        given = np.flatnonzero(~missing.all(axis=(0, 1)))
        own = _by_reward(part[..., given], advantages[rows], [names[int(k)] for k in given], dead_std)
        numbers |= {f"tasks/{task}/{key}": value for key, value in own.items()}
    return numbers


def _by_reward(rewards_PGK: Array, advantages_PG: Array, names: Sequence[str], dead_std: float) -> dict[str, float]:
    dead_PK, numbers = dead_groups(rewards_PGK, dead_std=dead_std), {}
    shares_K = _shares(rewards_PGK, advantages_PG, dead_std)
    for k, name in enumerate(names):
        numbers[f"{name}/dead_groups"] = float(dead_PK[:, k].mean())
        numbers[f"{name}/abstained"] = float(np.isnan(rewards_PGK[..., k]).mean())
        numbers[f"{name}/gradient_share"] = float(shares_K[k])
    return numbers


def _shares(rewards_PGK: Array, advantages_PG: Array, dead_std: float) -> Array:
    """[K]: each reward's part of the sum of squares of the advantages that the rewards explain; 0 if there is none."""
    scale_P1K = np.nan_to_num(spread(rewards_PGK, axis=1))
    z_PGK = np.nan_to_num(centred(rewards_PGK, dead_std)) / np.where(scale_P1K > dead_std, scale_P1K, 1.0)
    z_NK, advantages_N = z_PGK.reshape(advantages_PG.size, rewards_PGK.shape[2]), advantages_PG.reshape(-1)
    slopes_K = np.linalg.lstsq(z_NK, advantages_N, rcond=None)[0]
    parts_K = slopes_K * (z_NK.T @ advantages_N)
    return parts_K / parts_K.sum() if parts_K.sum() > dead_std**2 else np.zeros_like(parts_K)
