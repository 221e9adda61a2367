"""Branches begin where the value of what stands before is largest; what was rarely looked at is tried as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.engines.tree import Tree
from mmrl.grpo.engines.value_guided import Node, expanded, nodes_of
from tests.mmrl.grpo.test_trainer import SUITE, trainer
from tests.mmrl.grpo.test_tree import Keeping
from tests.support.training import tiny_policy

NINE = [7, 1, 9, 2, 9, 3]


def test_a_beginning_that_rollouts_share_is_one_node() -> None:
    ids = [NINE, [7, 1, 9, 4, 9, 5], [9, 6]]
    logprobs = [[-1.0] * 6, [-1.0, -1.0, -1.0, -3.0, -1.0, -0.5], [-1.0, -4.0]]
    marks = [[3, 5], [3, 5], [1, 2]]  # a mark at the very end has nothing behind it
    nodes = [(n.rollout, n.tokens, n.depth, n.entropy, n.visits) for n in nodes_of(ids, logprobs, marks)]
    assert nodes == [(0, 3, 1, 2.0, 2), (0, 5, 2, 1.0, 1), (1, 5, 2, 0.5, 1), (2, 1, 1, 4.0, 1)]


def test_the_best_beginnings_are_expanded_and_their_visits_counted() -> None:
    ids = [NINE, [9, 6, 6, 6]]
    low, deep, other = (
        Node(0, 3, 1, 1.0, 3, priority=0.50),
        Node(0, 5, 2, 0.2, 1, priority=0.62),
        Node(1, 1, 1, 0.7, 0, priority=0.57),
    )
    nodes = [low, deep, other]  # `low` is below the mean of its depth, 0.535
    assert expanded(nodes, ids, 5, 4, explore=0.0) == [deep] * 4
    assert expanded(nodes, ids, 5, 3, explore=1.0) == [other, deep, other]
    assert expanded([Node(0, 3, 1, 1.0, 1), deep], ids, 5, 1, explore=1.0) == [deep]
    assert expanded([Node(0, 3, 1, 1.0, 1)], ids, 5, 1, explore=1.0) == []


def early(rollouts: Any) -> list[float]:
    """Beginnings are the better the shorter they are."""
    return [1 / (1 + len(rollout.completion)) for rollout in rollouts]


def unknown(rollouts: Any) -> list[None]:
    return [None for _ in rollouts]


@pytest.mark.parametrize("value", ["early", "unknown"])
def test_a_group_branches_at_its_most_valuable_mark(
    value: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    suite = SUITE | {name: {"fn": f"{__name__}:{name}", "weight": 0.1} for name in ("early", "unknown")}
    model, processor = tiny_policy(budget)
    options: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 24}
    tree = Tree(after="e", branches=2, depth=1, value=value, explore=0.0, entropy=0.0)
    run = trainer(
        tmp_path, model, processor, mixed_samples[:2], budget, kind=Keeping, tree=tree, suite=suite, **options
    )
    run.train()
    ids, branches = run.kept["completion_ids"], run.of_batch.branches
    for first in (0, 4):
        whole = {place: ids[first + place] for place in (0, 2)}
        places = [(place, end) for place, drawn in whole.items() for end in run.generation.engine._marks(drawn)[:1]]
        shortest = min(places, key=lambda at: len(processor.tokenizer.decode(whole[at[0]][: at[1]])), default=None)
        for place in (1, 3):
            branch = branches[first + place]
            assert ids[first + place][: branch.tokens] == whole[branch.draw][: branch.tokens]
            if value == "unknown":
                assert branch.draw == place - 1
            elif shortest is not None:
                assert (branch.draw, branch.tokens) == shortest
    assert any(branch.tokens for branch in branches)
