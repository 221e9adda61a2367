"""A training whose numbers are no longer finite stops before such numbers are used or saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError, RunError
from mmrl.trainers.sharding import own_part


class FiniteNumbers(TrainerCallback):
    """Looks at the weights before the first step, at every gradient before it is used, and at the weights after it.

    transformers leaves a loss that is NaN out of the one that it logs, so a run could end well and save nothing but
    NaN. ZeRO does not show its gradients. A gradient that overflowed under a loss scaler is left to the scaler.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse weights with which no step can be made: of another run that went wrong, or of a damaged file."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if broken := not_finite(model.named_parameters()):
            raise InputError(f"the weights to start from are not finite: {_listed(broken)}; train from others")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check all gradients, after clipping."""
        gradients = [own_part(weight.grad) for weight in self.trainer.model.parameters() if weight.grad is not None]
        if self.trainer.accelerator.scaler is None and not _all_finite(gradients):
            self.trainer.stop_on_nan("the gradient")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the weights that the step has changed."""
        trained = [weight for weight in self.trainer.model.parameters() if weight.requires_grad]
        if not _all_finite(map(own_part, trained)):
            self.trainer.stop_on_nan(f"a weight after the step, at learning_rate={args.learning_rate:g},")


class FiniteLoss(Trainer, ABC):
    """A mixin for transformers trainers that learn from given answers: they stop at a loss that is not finite.

    Put it before the trainer's class among the bases.
    """

    @abstractmethod
    def answer_tokens(self, inputs: Mapping[str, Any]) -> Tensor:
        """[B, T]: which tokens of a batch are of an answer."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's, which goes on with a loss that is NaN."""
        self._loss_inputs = dict(inputs)
        loss: Any = super().compute_loss(model, inputs, *args, **kwargs)
        if self.model.training and not loss.isfinite():  # pyright: ignore[reportOptionalMemberAccess]
            self.stop_on_nan("the loss")
        return loss

    def stop_on_nan(self, what: str) -> None:
        """Save the micro-batch of the loss and stop."""
        processor: Any = self.processing_class
        decode, batch = getattr(processor, "tokenizer", processor).decode, self._loss_inputs
        rows = []
        for ids, seen, answer in zip(
            batch["input_ids"], batch["attention_mask"].bool(), self.answer_tokens(batch), strict=True
        ):
            rows.append({"prompt": decode(ids[seen & ~answer]), "completion": decode(ids[answer])})
        stop(Path(str(self.args.output_dir)), self.state.global_step + 1, what, batch, rows)


def check_saved(model: nn.Module) -> None:
    """RunError if a weight of `model` is not finite; called before it is written."""
    if broken := not_finite(model.named_parameters()):
        raise RunError(f"the trained weights are not finite: {_listed(broken)}; nothing was saved")


def not_finite(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the weights in which a number is not finite."""
    named = list(weights)
    if _all_finite(own_part(weight) for _, weight in named):
        return []
    return [name for name, weight in named if not _all_finite([own_part(weight)])]


def stop(out: Path, step: int, name: str, batch: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Save the batch to `out/nan-step-00010` (tensors, and its texts as JSON lines) and stop the training."""
    place = out / f"nan-step-{step:05d}"
    place.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().contiguous() for key, value in batch.items() if isinstance(value, Tensor)}
    save_file(tensors, place / "batch.safetensors")
    (place / "rows.jsonl").write_text("".join(f"{dumps(dict(row))}\n" for row in rows))
    raise RunError(f"step {step}: {name} is not finite; the batch is in {place}, the checkpoints are unchanged")


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is finite; the least and the largest say it; they cannot overflow as a sum can."""
    filled = [tensor.detach() for tensor in tensors if tensor.numel() and tensor.is_floating_point()]
    finite = [extreme.isfinite() for tensor in filled for extreme in torch.aminmax(tensor)]
    return not finite or bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all())


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} ({len(names)} tensors)"
