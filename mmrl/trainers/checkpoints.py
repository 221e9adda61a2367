"""Checkpoints that are written whole or not at all, and resumed with all their weights."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from torch import nn
from transformers import Trainer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from mmrl.core.config import InputError
from mmrl.core.files import put_in_place

PROCESSES = "processes.txt"  # in a checkpoint: the number of processes that wrote it


class WholeCheckpoints(Trainer):
    """A mixin for transformers trainers: put it before the trainer's class among the bases."""

    _staging: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint to a folder next to its place, then move it: a kill leaves the old state or the new."""
        place = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._staging = place / ".saving"
        try:
            super()._save_checkpoint(model, trial)
        finally:
            staging, self._staging = self._staging, None
        self.accelerator.wait_for_everyone()
        best = str(place / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
        self.state.best_model_checkpoint = best if self.state.best_global_step else None
        if self.args.should_save:
            (staging / name / PROCESSES).write_text(str(self.args.world_size))
            self.state.save_to_json(str(staging / name / TRAINER_STATE_NAME))  # with the final path of the best one
            put_in_place(staging / name, place / name)
            shutil.rmtree(staging)
            rotate_checkpoints(str(place), self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Train, unless the checkpoint is of the last step: the stock loop would take one step more."""
        if self.state.global_step < self.state.max_steps:
            return super()._run_epoch(*args, **kwargs)
        self.control.should_training_stop = True
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Restore every weight.

        The stock method loads a state dict without strictness. For Qwen2.5-VL the saved names differ from the names in
        memory: no weight matches, and training continues from the weights it started with (transformers #43701).
        """
        target: Any = self.accelerator.unwrap_model(model or self.model)
        if is_peft_model(target):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        restored, report = type(target).from_pretrained(
            resume_from_checkpoint, dtype=target.dtype, output_loading_info=True
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            raise InputError(f"{resume_from_checkpoint} does not hold this model: {report}")
        target.load_state_dict(restored.state_dict())

    def _load_best_model(self) -> None:
        """Restore every weight of the best checkpoint; the stock method has the same problem as the one above."""
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def in_one_piece(model: nn.Module) -> AbstractContextManager[Any]:
    """A context in which every process has all weights of `model`, also if ZeRO-3 shards them."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


def latest_checkpoint(out: Path) -> str | None:
    """The newest checkpoint in `out`, or None; leftovers of an interrupted save are removed."""
    shutil.rmtree(out / ".saving", ignore_errors=True)
    return get_last_checkpoint(str(out)) if out.is_dir() else None


def check_processes(checkpoint: str | None, processes: int) -> None:
    """Refuse to resume with another number of processes: data and randomness would differ, ZeRO's shards not fit."""
    place = Path(checkpoint or "") / PROCESSES
    if checkpoint and place.exists() and int(place.read_text()) != processes:
        raise InputError(
            f"{checkpoint} was written by {place.read_text()} processes and would be resumed by {processes}; start as "
            "many as before, or train from its weights (model: that directory) with another output"
        )
