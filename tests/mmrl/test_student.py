"""GRPO with a student that learns beside it: killed and resumed it ends where it would have, and two processes do what
one does."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rewards import Rollout
from tests.mmrl.test_resume import assert_same_run
from tests.support.training import config, material, metrics, rollouts, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivptt")


def slowly(rollouts: Sequence[Rollout]) -> list[float]:
    """A teacher that takes longer than a step and a checkpoint."""
    time.sleep(1.0)
    return [len(rollout.completion) / 100 for rollout in rollouts]


def taught(world: Path, place: Path, processes: int = 1, more: Any = None, **options: Any) -> Path:
    """A config whose first reward is a student, whose teacher is asked about half of the groups."""
    args: dict[str, Any] = {"model": str(world / "model"), "labels": str(place.with_suffix("")) + "_labels"}
    args |= {"teacher": {"fn": "tests.support.training:letters"}, "share": 0.5, "every": 2, "at_least": 2, **options}
    grpo = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 4 // processes}
    rewards = {"taught": {"fn": "student", "args": {**args, "device": "cpu"}}, **(more or {})}
    return config(world, place, rewards=rewards, grpo={**grpo, "shuffle_dataset": False})


def labels(place: Path, processes: int = 1) -> list[dict[str, Any]]:
    """What was asked in a run, in the order of steps."""
    files = [Path(f"{place}_labels", f"rank-{rank}.jsonl").read_text() for rank in range(processes)]
    lines = [json.loads(line) for text in files for line in text.splitlines()]
    return sorted((line for line in lines if "score" in line), key=lambda line: line["step"])


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(taught(world, tmp_path_factory.mktemp("whole") / "run.yaml"))


def test_killed_it_ends_where_it_would_have_ended(world: Path, whole: Path, tmp_path: Path) -> None:
    """In the teacher's thread, one step after a checkpoint."""
    broken = taught(world, tmp_path / "run.yaml")
    trained(broken, dies=True, DIE_AT="3")
    trained(broken)
    assert_same_run(whole, tmp_path / "run")
    assert labels(tmp_path / "run") == labels(whole)


def test_a_checkpoint_has_the_labels_of_its_steps(world: Path, tmp_path: Path) -> None:
    """Killed at once after it, before any version needs them."""
    options: dict[str, Any] = {"teacher": {"fn": f"{__name__}:slowly"}, "share": 1.0, "every": 100}
    letters = {"letters": {"fn": "tests.support.training:letters"}}
    trained(taught(world, tmp_path / "run.yaml", more=letters, **options), dies=True, DIE_AT="2")
    assert (tmp_path / "run" / "checkpoint-2").is_dir()
    assert [line["step"] for line in labels(tmp_path / "run")] == [0] * 4 + [1] * 4


def test_a_run_that_goes_on_without_its_labels_is_refused(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    place = taught(world, tmp_path / "run.yaml")
    says("train", place, "grpo.max_steps=2")
    shutil.rmtree(f"{tmp_path / 'run'}_labels")
    printed = says("train", place, status=2)
    assert "rewards.taught: the run goes on, and the labels in" in printed


def test_the_student_is_what_the_policy_learns_from(whole: Path) -> None:
    rows = [row for rows in rollouts(whole).values() for row in rows]
    assert {row["kind/taught"] for row in rows} == {"abstained", "scored"}
    assert any(row["advantage"] for row in rows if row["kind/taught"] == "scored")
    assert not any(row["advantage"] for row in rows if row["kind/taught"] == "abstained")
    assert 0 < len(labels(whole)) < len(rows)


def test_two_processes_do_what_one_does(world: Path, whole: Path, tmp_path: Path) -> None:
    """Each is taught by the labels of both."""
    both = trained(taught(world, tmp_path / "run.yaml", processes=2), processes=2)
    for name, expected in rollouts(whole).items():
        got = rollouts(both)[name]
        assert [row["completion"] for row in got] == [row["completion"] for row in expected]
        assert [row["score/taught"] for row in got] == pytest.approx(
            [row["score/taught"] for row in expected], abs=1e-5
        )
    assert len(metrics(both)) == 6
    asked = [sorted((line["step"], line["completion"]) for line in found) for found in (labels(both, 2), labels(whole))]
    assert asked[0] == asked[1]
