"""Dynamic sampling (DAPO, 2503.14476, section 3.2) for reward vectors: groups without any signal are replaced.

A group is dead if every one of its rewards is constant (`mmrl.advantages.dead_groups`). The sum of the rewards does not
decide: a decoupled estimator may learn from a group whose sum is constant.
Shapes: B rows of this process, groups of G consecutive rows, K rewards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.advantages import dead_groups
from mmrl.model.sampling import row_generator


def dead_group_numbers(rewards_BK: Tensor, group: int) -> list[int]:
    """The numbers of the groups in which no reward distinguishes two rollouts."""
    rewards_PGK = rewards_BK.view(-1, group, rewards_BK.shape[-1])
    return dead_groups(rewards_PGK).all(dim=1).nonzero().flatten().tolist()


def fresh(size: int, taken: Collection[int], count: int, *key: int) -> list[int]:
    """`count` positions in a dataset of `size` that are not `taken`, or fewer if it has no more.

    Their order depends on `key` alone.

    >>> fresh(6, {0, 1, 2}, 5, 0, 10, 1) == fresh(6, {2, 1, 0}, 5, 0, 10, 1)
    True
    >>> sorted(fresh(6, {0, 1, 2}, 5, 0, 10, 1))
    [3, 4, 5]
    """
    order = row_generator("refill", *key).permutation(size).tolist()
    return [place for place in order if place not in taken][:count]


def replaced(
    batch: Mapping[str, Any], other: Mapping[str, Any], pairs: Sequence[tuple[int, int]], group: int, *, pad: int
) -> dict[str, Any]:
    """`batch` with some of its groups replaced by groups of `other`; `pairs` are (number in batch, number in other).

    Values are lists or tensors of B rows; a value without rows (a count) stays. Prompts are padded on the left,
    completions on the right, token ids with `pad` and everything else with 0.
    """
    return {key: _with_rows(key, value, other[key], pairs, group, pad) for key, value in batch.items()}


def _with_rows(key: str, value: Any, other: Any, pairs: Sequence[tuple[int, int]], group: int, pad: int) -> Any:
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    moves = [(to * group + g, of * group + g) for to, of in pairs for g in range(group)]
    if not isinstance(value, Tensor):
        rows = list(value)
        for to, of in moves:
            rows[to] = other[of]
        return rows
    if value.ndim == 2:
        width, fill = max(value.shape[1], other.shape[1]), pad if key.endswith("_ids") else 0
        value, other = (_widened(one, width, fill, left=key.startswith("prompt")) for one in (value, other))
    value = value.clone()
    for to, of in moves:
        value[to] = other[of]
    return value


def _widened(rows: Tensor, width: int, fill: int, *, left: bool) -> Tensor:
    more = width - rows.shape[1]
    return torch.nn.functional.pad(rows, (more, 0) if left else (0, more), value=fill)
