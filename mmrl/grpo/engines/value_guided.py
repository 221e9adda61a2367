"""Where the branches of a tree begin by the value of what stands before (V-STAR, 2602.10699).

A node is a beginning up to a mark: V(s) is the score that a reward gives it, H(s) the entropy of the next token.

    G(s) = V(s) + entropy * H(s)                                         Eq. 11
    U(s) = G(s) + explore * sqrt(ln(N_root + 1) / (N(s) + 1))            Eq. 13, N: rollouts that have passed
    a node is expanded only if G(s) is at least the mean of its depth    Eq. 14

INFERRED: the paper does not say where its descent stops. Here all nodes of a group compete. H(s) is the mean of -log p
of the tokens that were drawn behind s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(slots=True)
class Node:
    """A beginning of rollout number `rollout`: its first `tokens`, up to the mark number `depth`. `visits` are the
    rollouts that have passed it, `priority` is G, None without a verdict on its value."""

    rollout: int
    tokens: int
    depth: int
    entropy: float
    visits: int
    priority: float | None = None


Ids = Sequence[int]
Scores = Sequence[float]


def nodes_of(ids: Sequence[Ids], logprobs: Sequence[Scores], marks: Sequence[Sequence[int]]) -> list[Node]:
    """The nodes of rollouts [token ids, log-probs]; `marks` are the tokens up to each mark of each, in order.

    A beginning that several rollouts share is one node.
    """
    passed: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for rollout, cuts in enumerate(marks):
        for depth, cut in enumerate(cuts, 1):
            if cut < len(ids[rollout]):
                passed[tuple(ids[rollout][:cut])].append((rollout, depth))
    return [
        Node(of[0][0], len(beginning), of[0][1], fmean(-logprobs[one][len(beginning)] for one, _ in of), len(of))
        for beginning, of in passed.items()
    ]


def gated(priorities: Scores, depths: Sequence[int]) -> list[bool]:
    """Which nodes may be expanded.

    >>> gated([0.50, 0.62, 0.57], [1, 1, 1])
    [False, True, True]
    """
    of_depth: dict[int, list[float]] = defaultdict(list)
    for priority, depth in zip(priorities, depths, strict=True):
        of_depth[depth].append(priority)
    means = {depth: fmean(of) for depth, of in of_depth.items()}
    return [priority >= means[depth] - 1e-12 for priority, depth in zip(priorities, depths, strict=True)]


def urge(priority: float, visits: int, rollouts: int, explore: float) -> float:
    """U of a node.

    >>> [round(urge(*node, 5, 1.0), 7) for node in ((0.50, 3), (0.62, 1), (0.57, 0))]
    [1.1692831, 1.5665092, 1.9085662]
    """
    return priority + explore * math.sqrt(math.log(rollouts + 1) / (visits + 1))


def expanded(nodes: Sequence[Node], ids: Sequence[Ids], rollouts: int, count: int, explore: float) -> list[Node]:
    """The nodes from which the next `count` rollouts go on, after `rollouts` that were drawn; none if no node has a
    verdict. Each is a visit of the node and of those before it."""
    known = [node for node in nodes if node.priority is not None]
    if not known:
        return []
    priorities = [node.priority or 0.0 for node in known]
    allowed = gated(priorities, [node.depth for node in known])
    open_ = [place for place, may in enumerate(allowed) if may]
    visits, chosen = [node.visits for node in known], list[Node]()
    for drawn in range(rollouts, rollouts + count):
        best = max(open_, key=lambda place: urge(priorities[place], visits[place], drawn, explore))
        chosen.append(known[best])
        beginning = ids[known[best].rollout][: known[best].tokens]
        for place, node in enumerate(known):
            visits[place] += list(ids[node.rollout][: node.tokens]) == list(beginning[: node.tokens])
    return chosen
