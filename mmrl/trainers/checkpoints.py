"""Checkpoints that are written whole or not at all, and resumed with all their weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from safetensors.torch import load_file
from transformers import Trainer
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from mmrl.core.config import InputError
from mmrl.core.files import put_in_place

PROCESSES = "processes.txt"  # in a checkpoint: the number of processes that wrote it
CONTENTS = "contents.json"  # in a checkpoint: the size of each of its files


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
            write_contents(staging / name)
            put_in_place(staging / name, place / name)
            shutil.rmtree(staging)
            rotate_checkpoints(str(place), self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The stock method, with the mean loss of all steps at the end: a resumed run has seen only the last ones."""
        if "train_loss" in logs:
            logs["train_loss"] = mean_loss(self.state.log_history, logs["train_loss"])
        super().log(logs, *args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the stock one is of a text model without a name; `mmrl.train.model_card` is that of a final model."""

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Train, unless the checkpoint is of the last step: the stock loop would take one step more."""
        if self.state.global_step < self.state.max_steps:
            return super()._run_epoch(*args, **kwargs)
        self.control.should_training_stop = True
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Restore every weight, from a checkpoint that has all of its files.

        The stock method loads a state dict without strictness. For Qwen2.5-VL the saved names differ from the names in
        memory: no weight matches, and training continues from the weights it started with (transformers #43701).
        """
        check_whole(Path(resume_from_checkpoint))
        target: Any = self.accelerator.unwrap_model(model or self.model)
        if not hasattr(target, "from_pretrained"):  # a module that holds several networks
            target.load_state_dict(load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME))
            return
        if is_peft_model(target) or self.is_fsdp_enabled:
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
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def mean_loss(history: Sequence[Mapping[str, Any]], otherwise: float) -> float:
    """The mean loss of a step, from logged means over the steps since the line before; `otherwise` if none is there.

    >>> mean_loss([{"step": 2, "loss": 1.0}, {"step": 2, "eval_reward": 0.5}, {"step": 3, "loss": 4.0}], 0.0)
    2.0
    """
    lines = [line for line in history if "loss" in line]
    before = [0, *(line["step"] for line in lines)]
    total = sum(line["loss"] * (line["step"] - start) for line, start in zip(lines, before, strict=False))
    return total / before[-1] if before[-1] else otherwise


def latest_checkpoint(out: Path) -> str | None:
    """The newest checkpoint in `out`, or None; leftovers of an interrupted save are removed."""
    shutil.rmtree(out / ".saving", ignore_errors=True)
    return get_last_checkpoint(str(out)) if out.is_dir() else None


def write_contents(checkpoint: Path) -> None:
    """Write the names and sizes of the files of a checkpoint into it."""
    sizes = {name: (checkpoint / name).stat().st_size for name in _files(checkpoint)}
    (checkpoint / CONTENTS).write_text(json.dumps(sizes, indent=1))


def check_whole(checkpoint: Path) -> None:
    """Refuse a checkpoint that lacks a file, or a part of one, as a copy that broke off does.

    transformers goes on without the state of an optimizer or of random numbers, and ends with other weights.
    """
    hint = "copy it again, or remove it to resume from the one before"
    try:
        sizes: dict[str, int] = json.loads((checkpoint / CONTENTS).read_text())
    except (OSError, ValueError):
        raise InputError(f"{checkpoint} is not whole: it lacks {CONTENTS}, which lists its files; {hint}") from None
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file() or file.stat().st_size != size:
            found = f"has {file.stat().st_size:,} of {size:,} bytes of" if file.is_file() else "lacks"
            raise InputError(f"{checkpoint} is not whole: it {found} {name}; {hint}")


def check_resumable(checkpoint: Path, processes: int) -> None:
    """Refuse to resume where the run would differ: from weights alone, from a torn checkpoint, or with another number
    of processes (data and randomness would differ, ZeRO's shards not fit)."""
    check_whole(checkpoint)
    instead = "train from its weights (model: that directory) with another output"
    if not (checkpoint / SCHEDULER_NAME).is_file():
        raise InputError(f"{checkpoint} holds weights alone (save_only_model) and cannot be resumed exactly; {instead}")
    before = int((checkpoint / PROCESSES).read_text())
    if before != processes:
        raise InputError(
            f"{checkpoint} was written by {before} processes and would be resumed by {processes}; start as many as "
            f"before, or {instead}"
        )


def _files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
