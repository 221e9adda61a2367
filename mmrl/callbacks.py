"""What a run says while it trains, on disk for those who look at it later."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class MetricsFile(TrainerCallback):
    """Appends what the trainer logs to `OUT/metrics.jsonl`, one object a line: `{"step": 3, "loss": 0.1, ...}`.

    A run that goes on from a checkpoint first drops the lines after the step of that checkpoint: those steps are done
    again. What is not a number (a reward that abstained everywhere) is null.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        place = metrics_file(args)
        place.parent.mkdir(parents=True, exist_ok=True)
        kept = [json.dumps(line) for line in read_metrics(place) if line["step"] <= state.global_step]
        staging = place.with_suffix(".writing")
        staging.write_text("".join(f"{line}\n" for line in kept))
        os.replace(staging, place)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            with metrics_file(args).open("a") as file:
                file.write(json.dumps({"step": state.global_step} | {key: _plain(logs[key]) for key in logs}) + "\n")


def metrics_file(args: TrainingArguments) -> Path:
    """Where a run with these arguments writes its metrics."""
    return Path(str(args.output_dir)) / "metrics.jsonl"


def read_metrics(place: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; the line that a killed run was writing is left out."""
    lines = place.read_text().splitlines(keepends=True) if place.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
