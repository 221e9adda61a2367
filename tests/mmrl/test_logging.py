"""Metrics arrive where `report_to` sends them, and in the progress line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.utils.logging import disable_propagation, enable_propagation

from mmrl.core.config import load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.trainers.callbacks import ProgressLine
from tests.support.training import REWARDS, config, material, metrics


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ti")


def test_tensorboard_gets_what_is_logged_and_the_progress_line_is_readable(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    grpo = {"max_steps": 2, "save_strategy": "no", "report_to": "tensorboard", "per_device_train_batch_size": 4}
    out = tmp_path / "run"
    run(load(TrainConfig, config(world, out.with_suffix(".yaml"), grpo=grpo)))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((tmp_path / "board").rglob("events.*")).parent))
    events.Reload()
    logged = [event.value for event in events.Scalars("train/rewards/letters/mean")]
    assert logged == pytest.approx([line["rewards/letters/mean"] for line in metrics(out)], rel=1e-5)
    assert len(logged) == 2
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("step 2/2"))
    for part in ("count ", "text ", "dead groups ", " s/step, ", " tokens/s, ", " left"):
        assert part in line


def test_a_log_has_no_complaints_about_values_that_are_not_there_or_about_libraries(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    grpo = {"max_steps": 2, "save_strategy": "no", "report_to": "tensorboard", "gradient_checkpointing": True}
    silent = {"elsewhere": {"fn": "tests.support.training:letters", "tasks": ["temporal"]}}  # of no sample here
    out = tmp_path / "run"
    enable_propagation()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always", FutureWarning)
        run(load(TrainConfig, config(world, out.with_suffix(".yaml"), grpo=grpo, rewards={**REWARDS, **silent})))
    disable_propagation()
    assert "attempting to log" not in caplog.text
    assert [str(each.message) for each in complaints if "_checkpointing" in str(each.message)] == []
    assert "rewards/letters/mean" in metrics(out)[0]
    assert "rewards/elsewhere/mean" not in metrics(out)[0]


def shown(steps: Iterable[int], *, of: int) -> None:
    """The progress of a training of `of` steps that logs at these steps."""
    line, state = ProgressLine(), TrainerState(max_steps=of)
    arguments, control = TrainingArguments(use_cpu=True), TrainerControl()
    line.on_train_begin(arguments, state, control)
    for state.global_step in steps:
        line.on_log(arguments, state, control, {"loss": 0.5})
    line.on_train_end(arguments, state, control)


@pytest.mark.parametrize(
    ("logged", "of", "printed"),
    [
        (range(1, 26), 25, [1, 10, 20, 25]),
        (range(5, 101, 25), 100, [5, 30, 55, 80]),
        (range(1, 4), 3, [1, 3]),
        (range(1, 13), 99, [1, 10]),
    ],
)
def test_a_pipe_gets_a_line_every_ten_steps(
    logged: range, of: int, printed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    shown(logged, of=of)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split("/")[0].removeprefix("step ")) for line in lines] == printed


@pytest.mark.parametrize("until", [3, 2], ids=["whole", "stopped"])
def test_a_terminal_gets_one_line_that_moves(until: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        shown(range(1, until + 1), of=3)
        monkeypatch.undo()
    written = ""
    with suppress(OSError):  # the end of a terminal that was closed
        while part := os.read(ours, 10_000):
            written += part.decode()
    os.close(ours)
    first, *moved = written.split("\r\x1b[K")
    assert first == ""
    assert [line[:8] for line in moved] == [f"step {step}/3" for step in range(1, until + 1)]
    assert written.count("\n") == 1  # at the end, so that other output begins a line of its own
    assert written.endswith("\n")
    assert all(len(line.rstrip()) < 40 for line in moved)
