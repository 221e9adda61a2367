"""The supervised warm-up: TRL's SFTTrainer on the same dataset, with gold answers in the model's own format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.model.encoding import Encoded
from mmrl.trainers import given
from mmrl.trainers.collator import GivenAnswers
from mmrl.trainers.dummy_media import DummyMedia
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteLoss, FiniteNumbers
from mmrl.trainers.quiet import quieten
from mmrl.trainers.targets import rendered
from mmrl.trainers.token_losses import IGNORED, ShapedLoss, Shaping
from rewards.prompt_form import PLAIN, PromptForm


class MultimodalSFTTrainer(FiniteLoss, RecordedEvaluations, SFTTrainer):
    """TRL's SFTTrainer on prompts with images, several images, videos or none; only the answer is learned.

    `model` is a path, a hub id or a loaded model, `train_dataset` what `mmrl.trainers.given.rows` takes.
    `shaping` weighs tokens by how sure the model is of them.
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
        **kwargs: Any,
    ) -> None:
        args, budget = args or SFTConfig(), budget or VisionBudget()
        model, processing_class = given.policy(model, processing_class, budget)
        train_dataset = given.rows(train_dataset)
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        args.remove_unused_columns = False
        collator = AnswerCollator(processing_class, model, budget, space, form)
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
        collator.dummies = DummyMedia(self, processing_class, train_dataset)
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
        *,
        keep: int = 4 << 30,
    ) -> None:
        super().__init__(processor, model, budget, form, keep=keep)
        self.space = space
        self.dummies: DummyMedia | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs: ids, mask and labels [B, T], and the media of all rows."""
        encoded = [self.encoded(row) for row in rows]
        answers = [self._answer(row, prompt) for row, prompt in zip(rows, encoded, strict=True)]
        for dummy in self.dummies.lacking(encoded) if self.dummies else ():
            encoded, answers = [*encoded, dummy], [*answers, []]
        inputs, answer_BT = self.batch(encoded, answers)
        return inputs | {"labels": inputs["input_ids"].masked_fill(~answer_BT, IGNORED)}

    def _answer(self, row: Mapping[str, Any], encoded: Encoded) -> list[int]:
        return self.answers.tokens(rendered(row, self.space, encoded.seen_size), encoded)
