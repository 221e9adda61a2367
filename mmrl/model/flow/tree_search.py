"""DTS and DTS*, tree sampling and search over the steps of a stochastic sampler (2506.20701).

The target is p(x_0) exp(sharpness * r(x_0)). Every state of a roll-out is a node, and the tree is kept: more time makes
it better. A node's value is the soft mean of its children's, (1 / sharpness) log mean exp(sharpness * value).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(eq=False)
class Node:
    """A state on the way, its soft value and how often it was passed; `depth` counts steps from the root."""

    state: Any
    depth: int = 0
    value: float = 0.0
    visits: int = 0
    children: list[Node] = field(default_factory=list)


def soft_value(values: Sequence[float], sharpness: float) -> float:
    """(1 / sharpness) log mean_j exp(sharpness * values_j).

    >>> round(soft_value([0, 1, 2], 1), 7), round(soft_value([0, 1, 2], 10), 7)
    (1.3089937, 1.8901433)
    """
    highest = max(values)
    return highest + math.log(np.mean([math.exp(sharpness * (value - highest)) for value in values])) / sharpness


def shares(values: Sequence[float], sharpness: float) -> list[float]:
    """The chances of each child under DTS: proportional to exp(sharpness * value).

    >>> [round(share, 7) for share in shares([0, 1, 2], 1)]
    [0.0900306, 0.2447285, 0.665241]
    """
    weights = np.exp(sharpness * (np.asarray(values) - max(values)))
    return (weights / weights.sum()).tolist()


def upper_bounds(values: Sequence[float], visits: Sequence[int], explore: float) -> list[float]:
    """What DTS* maximises: value + explore * sqrt(ln(visits of the parent) / visits of the child)."""
    total = math.log(max(sum(visits), 1))
    return [value + explore * math.sqrt(total / count) for value, count in zip(values, visits, strict=True)]


def width(visits: int, *, scale: float = 1.0, power: float = 0.5) -> int:
    """How many children a node may have: ceil(scale * max(1, visits)^power).

    >>> [width(visits) for visits in (0, 1, 2, 4, 5, 9, 10)]
    [1, 1, 2, 2, 3, 3, 4]
    """
    return math.ceil(scale * max(1, visits) ** power)


class ValueTree:
    """A tree that grows from `root` to nodes that are `final`, and whose rewards make the values above them.

    `search=True` is DTS* (the best bound is followed), otherwise DTS (children are drawn by their value).
    """

    def __init__(
        self,
        root: Any,
        final: Callable[[Node], bool],
        *,
        rng: np.random.Generator,
        sharpness: float = 1.0,
        search: bool = False,
        explore: float = 1.0,
    ) -> None:
        self.root, self.final = Node(root), final
        self.rng, self.sharpness, self.search, self.explore = rng, sharpness, search, explore
        self.best: Node | None = None

    def path(self) -> list[Node]:
        """From the root to a node that may have another child, or that is final."""
        path = [self.root]
        while not self.final(path[-1]) and len(path[-1].children) >= width(path[-1].visits):
            path.append(self._chosen(path[-1].children))
        return path

    def child(self, parent: Node, state: Any) -> Node:
        """A new child of a node."""
        made = Node(state, parent.depth + 1)
        parent.children.append(made)
        return made

    def passed_up(self, path: list[Node]) -> Node:
        """Pass the value of the last node of a path, its reward, to those before it. Returns that node."""
        leaf = path[-1]
        if self.best is None or leaf.value > self.best.value:
            self.best = leaf
        for node in reversed(path):
            node.visits += 1
            if node.children:
                node.value = soft_value([child.value for child in node.children], self.sharpness)
        return leaf

    def drawn(self) -> Node:
        """A leaf drawn from the tree by its values: a sample of the target as the tree grows."""
        node = self.root
        while node.children:
            node = node.children[self._by_share([child.value for child in node.children])]
        return node

    def _chosen(self, children: list[Node]) -> Node:
        values = [child.value for child in children]
        if self.search:
            return children[int(np.argmax(upper_bounds(values, [child.visits for child in children], self.explore)))]
        return children[self._by_share(values)]

    def _by_share(self, values: list[float]) -> int:
        return int(self.rng.choice(len(values), p=shares(values, self.sharpness)))


class Tree(ValueTree):
    """A tree over `steps` steps: `move(state, depth)` draws the next state, `reward(state)` scores a final one."""

    def __init__(
        self,
        root: Any,
        steps: int,
        move: Callable[[Any, int], Any],
        reward: Callable[[Any], float],
        **options: Any,
    ) -> None:
        super().__init__(root, lambda node: node.depth == steps, **options)
        self.move, self.reward = move, reward
        self.moves = 0  # evaluations of the sampler's network so far

    def grow(self) -> Node:
        """One iteration: walk to a node that may have another child, roll out, pass values up. Returns the leaf."""
        path = self.path()
        while not self.final(path[-1]):
            path.append(self.child(path[-1], self.move(path[-1].state, path[-1].depth)))
            self.moves += 1
        if not path[-1].visits:
            path[-1].value = float(self.reward(path[-1].state))
        return self.passed_up(path)
