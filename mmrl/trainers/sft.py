"""The supervised warm-up: TRL's SFTTrainer on the same dataset, with gold answers in the model's own format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.model.encoding import Encoded, encode, naming
from mmrl.model.inputs import media_inputs
from mmrl.trainers import given
from mmrl.trainers.dummy_media import DummyMedia
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteNumbers, stop
from mmrl.trainers.quiet import quieten
from mmrl.trainers.targets import Answers, rendered
from rewards.prompt_form import PLAIN, PromptForm

IGNORED = -100


class MultimodalSFTTrainer(RecordedEvaluations, SFTTrainer):
    """TRL's SFTTrainer on prompts with images, several images, videos or none; only the answer is learned.

    `model` is a path, a hub id or a loaded model, `train_dataset` what `mmrl.trainers.given.rows` takes.
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
            **kwargs,
        )
        quieten(self)
        collator.dummies = DummyMedia(self, processing_class, train_dataset)
        # The loss divides by the answer tokens of all accumulated batches and processes. Qwen's models declare that
        # their own loss cannot. It is not used, but transformers would believe it and average unequal batches.
        self.model_accepts_loss_kwargs = True
        self.add_callback(FiniteNumbers(self))

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's, which goes on with a loss that is NaN."""
        self._loss_inputs = dict(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.model.training and not loss.isfinite():
            self.stop_on_nan("the loss")
        return loss

    def stop_on_nan(self, what: str) -> None:
        """Save the micro-batch of the loss and stop."""
        tokenizer = self.processing_class.tokenizer
        texts = [self._loss_inputs[name].tolist() for name in ("input_ids", "attention_mask", "labels")]
        rows = [
            {
                "prompt": tokenizer.decode([i for i, seen, label in row if seen and label == IGNORED]),
                "completion": tokenizer.decode([label for _, _, label in row if label != IGNORED]),
            }
            for row in (list(zip(*columns, strict=True)) for columns in zip(*texts, strict=True))
        ]
        stop(Path(str(self.args.output_dir)), self.state.global_step + 1, what, self._loss_inputs, rows)


class AnswerCollator:
    """Makes a right-padded batch with labels on the answers only.

    Encoded prompts stay in memory, up to `keep` bytes, because every epoch needs them again.
    """

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
        self.processor = processor
        self.model = model
        self.answers = Answers(processor, model)
        self.budget = budget
        self.space = space
        self.form = form
        self.room = keep
        self.kept: dict[str, Encoded] = {}
        self.dummies: DummyMedia | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs: ids, mask and labels [B, T], and the media of all rows."""
        encoded = [self._encoded(row) for row in rows]
        answers = [self._answer(row, prompt) for row, prompt in zip(rows, encoded, strict=True)]
        for dummy in self.dummies.lacking(encoded) if self.dummies else ():
            encoded, answers = [*encoded, dummy], [*answers, []]
        length = max(len(prompt.input_ids) + len(answer) for prompt, answer in zip(encoded, answers, strict=True))
        batch = {
            "input_ids": torch.full((len(encoded), length), self.processor.tokenizer.pad_token_id),
            "attention_mask": torch.zeros(len(encoded), length, dtype=torch.long),
            "labels": torch.full((len(encoded), length), IGNORED),
        }
        for r, (prompt, answer) in enumerate(zip(encoded, answers, strict=True)):
            start, end = len(prompt.input_ids), len(prompt.input_ids) + len(answer)
            batch["input_ids"][r, :end] = torch.tensor([*prompt.input_ids, *answer])
            batch["attention_mask"][r, :end] = 1
            batch["labels"][r, start:end] = torch.tensor(answer)
        return batch | media_inputs(encoded, batch["input_ids"], self.model, left=False)

    def _encoded(self, row: Mapping[str, Any]) -> Encoded:
        if row["id"] in self.kept:
            return self.kept[row["id"]]
        asked = {"task": row["task"], "form": self.form}
        with naming(row["id"]):
            encoded = encode(self.processor, row["prompt"], row["media"], self.budget, **asked)
        size = sum(tensor.nbytes for tensor in encoded.tensors.values())
        if size <= self.room:
            self.room -= size
            self.kept[row["id"]] = encoded
        return encoded

    def _answer(self, row: Mapping[str, Any], encoded: Encoded) -> list[int]:
        return self.answers.tokens(rendered(row, self.space, encoded.seen_size), encoded)
