"""Trainers whose micro-batches are rows of the dataset as they are, and whose loss is their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from mmrl.trainers.callbacks import quieten
from mmrl.trainers.evaluation import RecordedEvaluations, evaluates
from mmrl.trainers.finite import FiniteNumbers, stop
from mmrl.trainers.monitor import SilentSteps

Row = Mapping[str, Any]


class RowTrainer(RecordedEvaluations, Trainer, ABC):
    """`loss_of` gives the loss of a micro-batch and numbers to log; the loss of a step is the mean over them."""

    model: Any  # transformers declares it as possibly None

    def __init__(self, model: nn.Module, *, args: TrainingArguments, train_dataset: Any) -> None:
        args.remove_unused_columns = False
        self._numbers = defaultdict[str, list[float]](list)
        held_out = train_dataset if evaluates(args) else None  # unread, but transformers wants one
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=held_out, data_collator=as_they_are
        )
        quieten(self)
        self.model_accepts_loss_kwargs = False  # the loss of a micro-batch is a mean
        self.add_callback(FiniteNumbers(self))

    @abstractmethod
    def loss_of(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """(the loss, numbers to log) of a micro-batch; `model` is as the trainer has wrapped it."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Stops on a loss that is not finite."""
        self._rows = inputs["rows"]
        loss, numbers = self.loss_of(model, inputs)
        self.keep(numbers)
        if not loss.isfinite():
            self.stop_on_nan("the loss")
        return loss

    def keep(self, numbers: Mapping[str, float]) -> None:
        """Numbers for the next line of the log, which has their means."""
        for name, value in numbers.items():
            self._numbers[name].append(value)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """With what was kept since the line before; a line of an evaluation goes between."""
        if any(name.startswith("eval_") for name in logs):
            super().log(logs, *args, **kwargs)
            return
        super().log({**logs, **{name: fmean(values) for name, values in self._numbers.items()}}, *args, **kwargs)
        self._numbers.clear()

    def stop_on_nan(self, what: str) -> None:
        """Save the ids and prompts of the micro-batch and stop."""
        rows = [{"id": row["id"], "prompt": row["prompt"]} for row in self._rows]
        stop(Path(str(self.args.output_dir)), self.state.global_step + 1, what, {}, rows)


class LearnsFromRollouts(RowTrainer, ABC):
    """A mixin for trainers whose `rollouts` make what is learned from the micro-batches of a step; put it first among
    the bases. A step in which no reward had a verdict is `silent` and skipped."""

    rollouts: Any  # of micro-batches, the same with what was drawn
    silent = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.add_callback(SilentSteps(self))

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of an optimizer step, with what was drawn for them and its advantages."""
        batches, count = super().get_batch_samples(*args, **kwargs)
        return self.rollouts(batches), count


def as_they_are(rows: Sequence[Row]) -> dict[str, Any]:
    """A micro-batch: its rows."""
    return {"rows": list(rows)}
