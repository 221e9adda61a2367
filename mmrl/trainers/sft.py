"""The supervised warm-up: TRL's SFTTrainer on the same dataset, with gold answers in the model's own format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.model.encoding import Encoded
from mmrl.tools.form import with_tools
from mmrl.tools.settings import ToolSettings
from mmrl.trainers import given
from mmrl.trainers.callbacks import quieten
from mmrl.trainers.collator import GivenAnswers
from mmrl.trainers.dummy_media import DummyMedia
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteLoss, FiniteNumbers
from mmrl.trainers.gold_turns import CALLS, GivenTurns, GoldTurns
from mmrl.trainers.targets import rendered
from mmrl.trainers.token_losses import IGNORED, ShapedLoss, Shaping
from rewards.prompt_form import PLAIN, PromptForm


class MultimodalSFTTrainer(FiniteLoss, RecordedEvaluations, SFTTrainer):
    """TRL's SFTTrainer on prompts with images, several images, videos or none; only the answer is learned.

    `model` is a path, a hub id or a loaded model, `train_dataset` what `mmrl.trainers.given.rows` takes.
    `shaping` weighs tokens by how sure the model is of them. With `tools` the prompts tell of them, and the gold calls
    of a row are made before its answer (`mmrl.trainers.gold_turns`).
    """

    model: Any  # TRL declares these as possibly None, or as one of many types
    processing_class: Any

    def __init__(
        self,
        model: Any,
        *,
        processing_class: Any = None,
        args: SFTConfig | None = None,
        train_dataset: Any,
        budget: VisionBudget | None = None,
        space: CoordinateSpace = CoordinateSpace.resized,
        form: PromptForm = PLAIN,
        shaping: Shaping | None = None,
        tools: Any = None,
        **kwargs: Any,
    ) -> None:
        args, budget = args or SFTConfig(), budget or VisionBudget()
        model, processing_class = given.policy(model, processing_class, budget)
        train_dataset, tools = given.rows(train_dataset), given.tools(tools, kwargs)
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        args.remove_unused_columns = False
        collator = AnswerCollator(processing_class, model, budget, space, form, tools)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            data_collator=collator,
            compute_loss_func=None if shaping is None else ShapedLoss(shaping),
            **kwargs,
        )
        quieten(self)
        collator.dummies = DummyMedia(self, processing_class, train_dataset, tools=tools is not None)
        # The loss divides by the answer tokens of all accumulated batches and processes. Qwen's models declare that
        # their own loss cannot. It is not used, but transformers would believe it and average unequal batches.
        self.model_accepts_loss_kwargs = True
        self.add_callback(FiniteNumbers(self))

    def answer_tokens(self, inputs: Mapping[str, Any]) -> Tensor:
        """Those that are learned."""
        return inputs["labels"] != IGNORED


class AnswerCollator(GivenAnswers):
    """Makes a right-padded batch with labels on the answers only."""

    def __init__(
        self,
        processor: Any,
        model: Any,
        budget: VisionBudget,
        space: CoordinateSpace,
        form: PromptForm = PLAIN,
        tools: ToolSettings | None = None,
        *,
        keep: int = 4 << 30,
    ) -> None:
        form = form if tools is None else with_tools(form, processor, tools)
        super().__init__(processor, model, budget, form, keep=keep)
        self.space = space
        self.turns = None if tools is None else GoldTurns(processor, model, tools, form, space)
        self.played: dict[str, GivenTurns] = {}
        self.dummies: DummyMedia | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs: ids, mask and labels [B, T], and the media of all rows."""
        answered = [self._answered(row, self.encoded(row)) for row in rows]
        for row, (prompt, answer, _) in zip(rows, answered, strict=True):
            self.check_context(row["id"], prompt, answer)
        for dummy in self.dummies.lacking([prompt for prompt, _, _ in answered]) if self.dummies else ():
            answered.append((dummy, [], []))
        encoded, answers, own = zip(*answered, strict=True)
        inputs, answer_BT = self.batch(encoded, answers)
        for r, (prompt, learned) in enumerate(zip(encoded, own, strict=True)):
            start = len(prompt.input_ids)
            answer_BT[r, start : start + len(learned)] = torch.tensor(learned, dtype=torch.bool)
        return inputs | {"labels": inputs["input_ids"].masked_fill(~answer_BT, IGNORED)}

    def _answered(self, row: Mapping[str, Any], prompt: Encoded) -> GivenTurns:
        if self.turns is None or CALLS not in row["meta"]:
            tokens = self.answers.tokens(rendered(row, self.space, prompt.seen_size), prompt)
            return prompt, tokens, [True] * len(tokens)
        if row["id"] in self.played:
            return self.played[row["id"]]
        turns = self.turns.turns(row, prompt, self.answers)
        if self.fits(turns[0]):
            self.played[row["id"]] = turns
        return turns
