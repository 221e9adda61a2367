"""Metrics arrive where `report_to` sends them, and in the progress line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from transformers.utils.logging import disable_propagation, enable_propagation

from mmrl.core.config import load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
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
