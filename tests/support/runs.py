"""Whether two runs are the same, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mmrl.trainers.callbacks import read_metrics
from tests.support.training import metrics, rollouts, trained


def closing(out: Path) -> list[float]:
    """The mean loss in the lines that close a run: there is one."""
    return [line["train_loss"] for line in read_metrics(out / "metrics.jsonl") if "train_runtime" in line]


def assert_same_run(first: Path, other: Path) -> None:
    assert metrics(first) == metrics(other)
    assert closing(first) == closing(other)
    assert len(closing(first)) == 1
    assert rollouts(first) == rollouts(other)
    assert_same_weights(first, other)


def assert_same_weights(first: Path, other: Path) -> None:
    weights = load_file(first / "final" / "model.safetensors")
    others = load_file(other / "final" / "model.safetensors")
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def assert_a_kill_changes_nothing(stage: str, written: Callable[[Path], Path], out: Path) -> list[dict[str, Any]]:
    """A stage that is killed during its second save ends as one that is not, whose metrics are returned.

    `written` puts the config of the run at a path.
    """
    whole, broken = trained(written(out / "whole.yaml")) / stage, written(out / "broken.yaml")
    trained(broken, dies=True, DIE_OPENING=f"{stage}/.saving/checkpoint-4/trainer_state.json")
    resumed = trained(broken) / stage
    assert metrics(whole) == metrics(resumed)
    assert_same_weights(whole, resumed)
    return metrics(whole)
