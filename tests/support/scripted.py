"""An engine that says what a test wants, so that a policy of random weights calls tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmrl.grpo.engines.base import Completions


class Scripted:
    """Draws what `says(number of the rollout, number of the turn)` gives, with an end token behind it."""

    apart = False

    def __init__(self, trainer: Any, says: Callable[[int, int], str]) -> None:
        self.trainer, self.says = trainer, says
        self.prompts: list[list[list[int]]] = []  # what stood before each row, turn by turn

    def completions(
        self, batch: Any, keys: Sequence[Any], group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        tokenizer, ids = self.trainer._tokenizer, []
        self.prompts.append([row.input_ids for row in batch.rows])
        for key in keys:
            turn = key[-1] if "turn" in key else 0
            said = tokenizer(self.says(key[4], turn), add_special_tokens=False)["input_ids"]
            ids.append([*said, tokenizer.eos_token_id][: length or self.trainer.max_completion_length])
        return Completions(ids, [torch.zeros(len(one)).tolist() for one in ids], self.trainer.state.global_step)

    def push(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to end."""

    def save(self, checkpoint: Path) -> None:
        """Nothing to write."""

    def restore(self, checkpoint: Path) -> None:
        """Nothing to read."""


def scripted(run: Any, says: Callable[[int, int], str]) -> Scripted:
    """`run`, a trainer with tools, speaks as `says`."""
    engine = Scripted(run, says)
    run.generation.engine = run.generation.tools.engine = engine
    return engine


def call(name: str, **arguments: Any) -> str:
    """The text of a call."""
    import json

    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
