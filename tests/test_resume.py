"""A run that is killed and started again ends where it would have ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import config, material, metrics, rollouts, start, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"))


def killed(arguments: list[str], log: Path, step: int) -> None:
    """Run `mmrl train ARGUMENTS` until it is killed in the midst of scoring the rollouts of `step`."""
    process = start(arguments, log, {"DIE_AT": str(step)})
    process.join(180)
    assert process.exitcode == -signal.SIGKILL, log.read_text()


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    assert rollouts(one) == rollouts(other)
    weights = load_file(one / "final" / "model.safetensors")
    again = load_file(other / "final" / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)


def test_full_fine_tuning_goes_on_exactly(world: Path, tmp_path: Path) -> None:
    """13 samples make three cycles of two steps an epoch. Killed twice: the first resume starts amid epoch 0 and
    crosses its end, the second starts amid epoch 1. The reference model (beta) is the original one all along."""
    grpo = {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "max_steps": 12, "save_steps": 4, "beta": 0.1}
    whole, broken = (config(world, tmp_path / f"{name}.yaml", grpo=grpo) for name in ("whole", "broken"))
    trained([str(whole)], tmp_path / "whole")
    for step in (6, 10):
        killed([str(broken)], tmp_path / "broken.log", step)
        assert [line["step"] for line in metrics(tmp_path / "broken")] == list(range(1, step + 1))
    trained([str(broken)], tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert len(rollouts(tmp_path / "whole")) == 6
