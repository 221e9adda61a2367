"""Sibling-GRPO's advantages (V-STAR, 2602.10699): a branch against the other branches behind the same prefix."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mmrl.advantages.arrays import Array, in_range


def sibling_advantages(
    tokens_G: Sequence[Sequence[Hashable]], reward_G: Array, *, eps: float = 1e-4, whole_branch: bool = False
) -> list[Array]:
    """The advantage of every token of a group's completions, each [T] (equations 15 to 18, released code).

        R(h,v) = mean reward of the completions that continue the prefix h with v
        A(h,v) = (R(h,v) - mean_v R(h,v)) / (std_v R(h,v) + eps)

    The mean and the population's standard deviation count each branch once, however many completions take it. A token
    behind which nothing branches gets 0; with `whole_branch` it gets the advantage of the branch that it belongs to.
    A reward that is NaN is left out.

    >>> [a.round(4).tolist() for a in sibling_advantages(["ax", "ay", "bx", "bz"], [1, 0, 0, 0])]
    [[0.9996, 0.9998], [0.9996, -0.9998], [-0.9996, 0.0], [-0.9996, 0.0]]
    """
    in_range("eps", eps, low=0)
    rewards = np.asarray(reward_G, np.float64)
    if rewards.shape != (len(tokens_G),):
        raise ValueError(f"rewards of the shape {rewards.shape} for {len(tokens_G)} completions")
    advantages = [np.zeros(len(tokens)) for tokens in tokens_G]
    open_nodes = [
        (0, list(range(len(tokens_G))), 0.0)
    ]  # depth, the completions with this prefix, their branch's advantage
    while open_nodes:
        depth, members, inherited = open_nodes.pop()
        branches: dict[Hashable, list[int]] = {}
        for member in members:
            if depth < len(tokens_G[member]):
                branches.setdefault(tokens_G[member][depth], []).append(member)
        scored = _branch_advantages([rewards[branch] for branch in branches.values()], eps)
        for branch, own in zip(branches.values(), scored, strict=True):
            advantage = inherited if own is None and whole_branch else own or 0.0
            for member in branch:
                advantages[member][depth] = advantage
            open_nodes.append((depth + 1, branch, advantage))
    return advantages


def _branch_advantages(rewards: Sequence[Array], eps: float) -> list[float | None]:
    """The standardised mean reward of each branch; None where fewer than two branches have a reward."""
    known = [branch[~np.isnan(branch)] for branch in rewards]
    means = np.array([branch.mean() if len(branch) else np.nan for branch in known])
    if (~np.isnan(means)).sum() < 2:
        return [None] * len(rewards)
    spread = np.nanstd(means)
    scaled = (means - np.nanmean(means)) / (spread + eps) if spread > 0 else means * 0
    return [0.0 if np.isnan(value) else float(value) for value in scaled]
