"""Advantages of the steps of an answer: a process reward scores each of them, beside the outcome of the whole.

Shapes: G rollouts of a prompt, S steps of a rollout; S differs between rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmrl.advantages.arrays import Array, in_range


def renormed(process_S: Array | Sequence[float], outcome: float) -> Array:
    """[S]: the scores of steps, centred together with the outcome of their rollout (ReNorm of PPR, 2509.25598).

        r_s = (p_s - 1/2) + (o - 1/2)

    Both are in [0, 1]. A good step of a failed rollout is below 0, and a poor step of a successful one is above it less
    than a good one. A score that is NaN adds nothing; where both are, the step has none.

    >>> renormed([0.8, 0.2], 1.0).round(4).tolist(), renormed([0.8, 0.2], 0.0).round(4).tolist()
    ([0.8, 0.2], [-0.2, -0.8])
    """
    both_S2 = np.stack([np.asarray(process_S, np.float64), np.full(len(process_S), outcome)], axis=1) - 0.5
    return np.where(np.isnan(both_S2).all(axis=1), np.nan, np.nansum(both_S2, axis=1))


def step_advantages(
    rewards_GS: Sequence[Array | Sequence[float]], *, to_go: bool = False, eps: float = 1e-4
) -> list[Array]:
    """The advantage of each step of a group's rollouts, each [S] (process supervision of DeepSeekMath, 2402.03300).

        A_s = (r_s - mean r) / (std r + eps)

    Mean and standard deviation (the population's) are those of all steps of the group. With `to_go`, as in that paper,
    a step gets the sum of its own advantage and of those behind it. A reward that is NaN is left out and gets 0.

    >>> [a.round(3).tolist() for a in step_advantages([[1.0, 0.0], [1.0, 1.0]])]
    [[0.577, -1.732], [0.577, 0.577]]
    >>> [a.round(3).tolist() for a in step_advantages([[1.0, 0.0], [1.0, 1.0]], to_go=True)]
    [[-1.154, -1.732], [1.154, 0.577]]
    """
    in_range("eps", eps, low=0)
    rewards = [np.asarray(rewards_S, np.float64) for rewards_S in rewards_GS]
    known = np.concatenate([rewards_S[~np.isnan(rewards_S)] for rewards_S in rewards] or [np.zeros(0)])
    if len(known) == 0 or np.ptp(known) <= 1e-6:
        return [np.zeros(len(rewards_S)) for rewards_S in rewards]
    scaled = [np.nan_to_num((rewards_S - known.mean()) / (known.std() + eps)) for rewards_S in rewards]
    return [np.cumsum(one[::-1])[::-1] for one in scaled] if to_go else scaled
