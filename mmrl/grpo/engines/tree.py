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
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, model_validator

from mmrl.core.config import Config
from mmrl.grpo.batch import Branch, RolloutBatch, gathered
from mmrl.grpo.credit import token_offsets
from mmrl.grpo.engines.base import Completions, Keys, RolloutEngine
from mmrl.grpo.engines.value_guided import expanded, nodes_of
from mmrl.grpo.rollouts import rollout_of
from mmrl.model.encoding import Encoded


class Tree(Config):
    """Each rollout that is drawn whole gets `branches` - 1 others that go on from where it first wrote `after`. With
    `depth` 2 all of these get as many again, from the second `after` on, and so forth.

    With `value`, a reward, as many begin behind any `after` of their group, where that reward, `entropy` times the
    entropy of the next token and `explore` for what was seen rarely are largest (`value_guided`)."""

    after: Annotated[str, Field(min_length=1)] = "</think>"
    branches: Annotated[int, Field(ge=2)] = 2
    depth: Annotated[int, Field(ge=1, le=10)] = 1
    value: str | None = None
    entropy: NonNegativeFloat = 0.1
    explore: NonNegativeFloat = 1.0

    @model_validator(mode="after")
    def _guided_by_a_value(self) -> Self:
        if self.value is None and (alone := self.unusual(["entropy", "explore"])):
            raise ValueError(f"{alone[0]} is for branches by value; give value, the name of a reward")
        return self

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
        self.apart = engine.apart

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
            places = self._places(batch, drawn, group, level)
            begun = {place: self._beginning(batch.rows[place.draw], drawn, place) for place in places.values()}
            rows = [begun[place].row for place in places.values()]
            room = longest - min(len(one.ids) for one in begun.values())
            own = [(*keys[number], "branch", level) if level else keys[number] for number in places]
            together = 1 if level and self.tree.value else len(rows) // len(set(map(id, rows)))
            came = self.engine.completions(RolloutBatch(rows=rows), own, together, temperature, length=room)
            for (number, place), ids, logprobs in zip(places.items(), came.ids, came.logprobs, strict=True):
                drawn.ids[number] = [*begun[place].ids, *ids][:longest]
                drawn.logprobs[number] = [*begun[place].logprobs, *logprobs][:longest]
                branches[number] = Branch(place.draw % group, place.tokens)
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

    def _places(self, batch: RolloutBatch, drawn: Completions, group: int, level: int) -> dict[int, Branch]:
        """The rollouts that are drawn at this level, and where each branches off: `draw` is a place in the batch."""
        parents = self._parents(len(drawn.ids), level)
        places = {number: Branch(parent, self._cut(drawn.ids[parent], level)) for number, parent in parents.items()}
        if not level or self.tree.value is None:
            return places
        for first in range(0, len(drawn.ids), group):
            own = [number for number in places if first <= number < first + group]
            known = [number for number in range(first, first + group) if drawn.ids[number]]
            for number, place in zip(own, self._by_value(batch, drawn, known, len(own)), strict=False):
                places[number] = place
        return places

    def _by_value(self, batch: RolloutBatch, drawn: Completions, known: Sequence[int], count: int) -> list[Branch]:
        """Where the next `count` rollouts of a group branch off, of which those in the places `known` are drawn."""
        assert self.tree.value is not None
        ids, scoring, tokenizer = [drawn.ids[number] for number in known], self.trainer.scoring, self.trainer._tokenizer
        nodes = nodes_of(ids, [drawn.logprobs[number] for number in known], list(map(self._marks, ids)))
        texts = [tokenizer.decode(ids[node.rollout][: node.tokens], skip_special_tokens=True) for node in nodes]
        sample, row, state = batch.samples[known[0]], batch.rows[known[0]], self.trainer.state
        asked = [rollout_of(sample, text, row, scoring.space, state.global_step, state.max_steps) for text in texts]
        for node, verdict in zip(nodes, scoring.suite.column(self.tree.value, asked), strict=True):
            if verdict.score is not None:
                node.priority = verdict.score + self.tree.entropy * node.entropy
        chosen = expanded(nodes, ids, len(known), count, self.tree.explore)
        return [Branch(known[node.rollout], node.tokens) for node in chosen]

    def _beginning(self, row: Encoded, drawn: Completions, place: Branch) -> Beginning:
        ids, logprobs, cut = drawn.ids[place.draw], drawn.logprobs[place.draw], place.tokens
        row = replace(row, input_ids=[*row.input_ids, *ids[:cut]]) if cut else row
        return Beginning(row, ids[:cut], logprobs[:cut])

    def _cut(self, ids: Sequence[int], marks: int) -> int:
        """How many of the tokens go up to the mark of this number, or to the last one before it with more behind."""
        return max((cut for cut in self._marks(ids)[:marks] if cut < len(ids)), default=0)

    def _marks(self, ids: Sequence[int]) -> list[int]:
        """How many of the tokens go up to each mark."""
        tokenizer = self.trainer._tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=True)
        ends = [mark.end() for mark in re.finditer(re.escape(self.tree.after), text)]
        stops = [stop for _, stop in token_offsets(ids, tokenizer)] if ends else []
        return [next((place for place, stop in enumerate(stops, 1) if stop >= end), len(ids)) for end in ends]

    def _log(self, ids: Sequence[Sequence[int]], branches: Sequence[Branch]) -> None:
        """The share of rollouts that branch off, and of tokens that were not drawn again for it."""
        counts = [len(ids), sum(map(len, ids)), sum(branch.tokens > 0 for branch in branches)]
        counts.append(sum(branch.tokens for branch in branches))
        device = self.trainer.accelerator.device
        rollouts, tokens, branching, shared = gathered(torch.tensor([counts], device=device)).sum(dim=0).tolist()
        self.trainer._metrics["train"]["tree/branches"].append(branching / rollouts)
        self.trainer._metrics["train"]["tree/shared"].append(shared / tokens)
