"""Prompts with given answers behind them, as the right-padded batches of the trainers that learn from such answers.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import Encoded, encode, naming
from mmrl.model.inputs import bare, context_of, media_inputs
from mmrl.trainers.targets import Answers
from rewards.prompt_form import PLAIN, PromptForm


class GivenAnswers:
    """Makes the model's inputs of rows whose answers are given.

    What is encoded stays in memory, up to `keep` bytes, because every epoch needs it again.
    """

    def __init__(
        self, processor: Any, model: Any, budget: VisionBudget, form: PromptForm = PLAIN, *, keep: int = 4 << 30
    ) -> None:
        self.processor = processor
        self.model = model
        self.answers = Answers(processor, model)
        self.budget = budget
        self.form = form
        self.room = keep
        self.kept: dict[str, Encoded] = {}

    def encoded(self, row: Mapping[str, Any]) -> Encoded:
        """The prompt of a row of `mmrl.trainers.dataset.as_dataset`."""
        if row["id"] in self.kept:
            return self.kept[row["id"]]
        asked = {"task": row["task"], "form": self.form}
        with naming(row["id"]):
            encoded = encode(self.processor, row["prompt"], row["media"], self.budget, **asked)
        if self.fits(encoded):
            self.kept[row["id"]] = encoded
        return encoded

    def check_context(self, name: str, prompt: Encoded, answer: Sequence[int]) -> None:
        """InputError, with the sample's id, for a prompt with an answer that is longer than the model takes."""
        length, most = len(prompt.input_ids) + len(answer), context_of(bare(self.model))
        if most is not None and length > most:
            raise InputError(
                f"sample {name}: {length} tokens are more than the {most} that the model takes; leave it out"
            )

    def fits(self, encoded: Encoded) -> bool:
        """Whether `encoded` may stay in memory; there is less room behind it."""
        size = sum(tensor.nbytes for one in (encoded, *encoded.behind) for tensor in one.tensors.values())
        if size > self.room:
            return False
        self.room -= size
        return True

    def batch(self, prompts: Sequence[Encoded], answers: Sequence[Sequence[int]]) -> tuple[dict[str, Tensor], Tensor]:
        """(the model's inputs, which tokens are of an answer [B, T]): ids and mask [B, T], and all rows' media."""
        length = max(len(prompt.input_ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids_BT = torch.full((len(prompts), length), self.processor.tokenizer.pad_token_id)
        mask_BT, answer_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
        for r, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            start, end = len(prompt.input_ids), len(prompt.input_ids) + len(answer)
            ids_BT[r, :end] = torch.tensor([*prompt.input_ids, *answer])
            mask_BT[r, :end] = 1
            answer_BT[r, start:end] = True
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
        return inputs | media_inputs(prompts, ids_BT, self.model, left=False), answer_BT
