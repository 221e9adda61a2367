"""Metrics of a running training: a file for later, a line for the terminal, and what both leave out."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmrl.core.files import write_atomic

# TRL 1.16 asks for gradient checkpointing by names that transformers calls old, several times a step.
OLD_NAMES = (
    *("gradient_checkpointing", "is_gradient_checkpointing"),
    *("gradient_checkpointing_enable", "gradient_checkpointing_disable"),
)


class MetricsFile(TrainerCallback):
    """Appends what the trainer logs to `OUT/metrics.jsonl`, one object a line: `{"step": 3, "loss": 0.1, ...}`.

    A resumed run first drops the lines after the step of its checkpoint, because those steps are repeated. NaN, as of a
    reward that abstained everywhere, is written as null.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop the lines after the checkpoint from which the run resumes."""
        if not state.is_world_process_zero:
            return
        place = metrics_file(args)
        steps = [line for line in read_metrics(place) if "train_runtime" not in line]  # which closes a run
        kept = [json.dumps(line) for line in steps if line["step"] <= state.global_step]
        write_atomic(place, "".join(f"{line}\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append one line."""
        if state.is_world_process_zero and logs:
            with metrics_file(args).open("a") as file:
                file.write(json.dumps({"step": state.global_step} | {key: _plain(logs[key]) for key in logs}) + "\n")


class ProgressLine(TrainerCallback):
    """The mean reward of every task and dead groups (or the loss, and the share ranked right), pace and time
    left, in one line.

    On a terminal the line is written anew at each logged step. Elsewhere, as in a log file, it is a new line at the
    first step, at the last, and whenever ten steps are done.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.started, self.first = time.monotonic(), state.global_step
        self.clock, self.read = self.started, state.num_input_tokens_seen
        self.tens, self.open = -1, False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the line."""
        done = state.global_step - self.first
        if not state.is_world_process_zero or not logs or "train_runtime" in logs or done < 1:
            return
        pace = (time.monotonic() - self.started) / done
        left = timedelta(seconds=round(pace * (state.max_steps - state.global_step)))
        values = " ".join(f"{name} {value:.2f}" for name, value in _selected(logs))
        speed = f"{pace:.1f} s/step, {self._tokens_per_second(logs)}{left} left"
        self._show(f"step {state.global_step}/{state.max_steps}  {values}  {speed}", state, kept="eval_reward" in logs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End a line that would have been overwritten."""
        if self.open:
            print(flush=True)

    def _show(self, line: str, state: TrainerState, *, kept: bool) -> None:
        """Print the line; on a terminal one that is not `kept` is overwritten by the next, and so never wraps."""
        last = state.global_step >= state.max_steps
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            self.open = not (kept or last)
            print(f"\r\x1b[K{line[: width - 1]}", end="" if self.open else "\n", flush=True)
        elif kept or last or state.global_step // 10 > self.tens:
            print(line, flush=True)
        self.tens = state.global_step // 10

    def _tokens_per_second(self, logs: Mapping[str, Any]) -> str:
        """Tokens of prompts and completions per second since the last log."""
        clock, self.clock = self.clock, time.monotonic()
        read, self.read = self.read, logs.get("num_tokens", self.read)
        return f"{(self.read - read) / (self.clock - clock):,.0f} tokens/s, " if self.read > read else ""


def _selected(logs: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The (name, value) pairs that the line shows."""
    if "eval_reward" in logs:
        return [("held-out reward", logs["eval_reward"])]
    tasks = [key.split("/") for key in logs if key.startswith("tasks/")]
    means = [(key[1], logs["/".join(key)]) for key in tasks if len(key) == 3 and key[2] == "reward"]
    dead = [("dead groups", logs["frac_reward_zero_std"])] if "frac_reward_zero_std" in logs else []
    right = [("ranked right", logs[key]) for key in ("rewards/accuracies", "accuracy") if key in logs]
    pairs = [*means, *dead] if means else [("loss", logs["loss"]), *right] if "loss" in logs else []
    return [(name, value) for name, value in pairs if isinstance(value, float | int) and math.isfinite(value)]


class KnownValues(TrainerCallback):
    """Takes out of what is logged the values that are None, as of a reward whose task is not in the batch.

    Loggers complain about each of them at each step. This callback is to be the first.
    """

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Take them out."""
        for key in [key for key, value in (logs or {}).items() if value is None]:
            del logs[key]


def quieten(trainer: Any) -> None:
    """Make the log of `trainer` quiet."""
    trainer.callback_handler.callbacks.insert(0, KnownValues())
    forget_old_names()


def forget_old_names() -> None:
    """Do not print the warnings about old names that TRL uses; no setting of ours avoids them."""
    for name in OLD_NAMES:
        warnings.filterwarnings("ignore", f"`{name}` is deprecated", FutureWarning)


def metrics_file(args: TrainingArguments) -> Path:
    """The file to which a run with these arguments writes its metrics."""
    return Path(str(args.output_dir)) / "metrics.jsonl"


def read_metrics(place: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file without the incomplete last line of a killed run."""
    lines = place.read_text().splitlines(keepends=True) if place.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
