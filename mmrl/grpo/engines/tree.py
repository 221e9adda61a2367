"""Groups as prefix trees (V-STAR, 2602.10699): some rollouts are drawn whole, the others branch off behind a mark.

    draw 0   Two loops, so it is an 8.</think>8      drawn whole
    draw 1                                    |B     from the mark of 0 on
    draw 2   It has one loop.</think>6               drawn whole
    draw 3                           |9              from the mark of 2 on

What differs in the rewards of rollouts that share a beginning is due to what came behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field

from mmrl.core.config import Config
from mmrl.grpo.batch import Branch, RolloutBatch, gathered
from mmrl.grpo.credit import token_offsets
from mmrl.grpo.engines.base import Completions, Keys, RolloutEngine
from mmrl.model.encoding import Encoded


class Tree(Config):
    """Each rollout that is drawn whole gets `branches` - 1 others that go on from where it first wrote `after`. With
    `depth` 2 all of these get as many again, from the second `after` on, and so forth."""

    after: Annotated[str, Field(min_length=1)] = "</think>"
    branches: Annotated[int, Field(ge=2)] = 2
    depth: Annotated[int, Field(ge=1, le=10)] = 1

    @property
    def size(self) -> int:
        """The rollouts of a tree."""
        return self.branches**self.depth


class Beginning(NamedTuple):
    """What a branch shares with the rollout that it branches off, and the row that the engine goes on from."""

    row: Encoded
    ids: list[int]
    logprobs: list[float]


class TreeRollouts:
    """Has `engine` draw the rollouts of a training level by level; an evaluation, and later turns, are drawn as ever.

    Where a rollout did not write the mark once more, its branches begin at the mark before, in the end at the prompt.
    """

    def __init__(self, trainer: Any, engine: RolloutEngine, tree: Tree) -> None:
        self.trainer, self.engine, self.tree = trainer, engine, tree

    def completions(
        self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        """A completion for each row of `batch`, which has whole groups. Sets `batch.branches`."""
        if group == 1 or not self.trainer.model.training:
            return self.engine.completions(batch, keys, group, temperature, length=length)
        longest = length or self.trainer.max_completion_length
        drawn = Completions([[] for _ in keys], [[] for _ in keys], self.trainer.state.global_step)
        branches = [Branch(number % group, 0) for number in range(len(keys))]
        for level in range(self.tree.depth + 1):
            parents = self._parents(len(keys), level)
            begun = {parent: self._beginning(batch.rows[parent], drawn, parent, level) for parent in parents.values()}
            rows = [begun[parent].row for parent in parents.values()]
            room = longest - min(len(one.ids) for one in begun.values())
            own = [(*keys[number], "branch", level) if level else keys[number] for number in parents]
            together = len(rows) // len(set(map(id, rows)))
            came = self.engine.completions(RolloutBatch(rows=rows), own, together, temperature, length=room)
            for (number, parent), ids, logprobs in zip(parents.items(), came.ids, came.logprobs, strict=True):
                drawn.ids[number] = [*begun[parent].ids, *ids][:longest]
                drawn.logprobs[number] = [*begun[parent].logprobs, *logprobs][:longest]
                branches[number] = Branch(parent % group, len(begun[parent].ids))
        batch.branches = branches
        self._log(drawn.ids, branches)
        return drawn

    def push(self) -> None:
        """Of the engine."""
        self.engine.push()

    def close(self) -> None:
        """Of the engine."""
        self.engine.close()

    def save(self, checkpoint: Path) -> None:
        """Of the engine."""
        self.engine.save(checkpoint)

    def restore(self, checkpoint: Path) -> None:
        """Of the engine."""
        self.engine.restore(checkpoint)

    def _parents(self, count: int, level: int) -> dict[int, int]:
        """The rollouts of `count` that are drawn at this level, and which each branches off; at level 0 itself."""
        below = self.tree.branches ** (self.tree.depth - level)
        if level == 0:
            return {number: number for number in range(0, count, below)}
        above = below * self.tree.branches
        return {number: number - number % above for number in range(0, count, below) if number % above}

    def _beginning(self, row: Encoded, drawn: Completions, number: int, level: int) -> Beginning:
        ids, logprobs = drawn.ids[number], drawn.logprobs[number]
        cut = self._cut(ids, level)
        row = replace(row, input_ids=[*row.input_ids, *ids[:cut]]) if cut else row
        return Beginning(row, ids[:cut], logprobs[:cut])

    def _cut(self, ids: Sequence[int], marks: int) -> int:
        """How many of the tokens go up to the mark of this number, or to the last one before it with more behind."""
        tokenizer = self.trainer._tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=True)
        ends = [mark.end() for mark in re.finditer(re.escape(self.tree.after), text)][:marks]
        stops = [stop for _, stop in token_offsets(ids, tokenizer)] if ends else []
        cuts = [next((place for place, stop in enumerate(stops, 1) if stop >= end), len(ids)) for end in ends]
        return max((cut for cut in cuts if cut < len(ids)), default=0)

    def _log(self, ids: Sequence[Sequence[int]], branches: Sequence[Branch]) -> None:
        """The share of rollouts that branch off, and of tokens that were not drawn again for it."""
        counts = [len(ids), sum(map(len, ids)), sum(branch.tokens > 0 for branch in branches)]
        counts.append(sum(branch.tokens for branch in branches))
        device = self.trainer.accelerator.device
        rollouts, tokens, branching, shared = gathered(torch.tensor([counts], device=device)).sum(dim=0).tolist()
        self.trainer._metrics["train"]["tree/branches"].append(branching / rollouts)
        self.trainer._metrics["train"]["tree/shared"].append(shared / tokens)
