"""A reward that always raises stops training and scoring: one line on stderr, status 1, no traceback.

An evaluation records failures instead, and withholds the mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewards import Rollout
from tests.support.training import config, material

CALLS = 8  # from which a suite stops a run
BROKEN = {"mine": {"fn": "tests.mmrl.test_failing_rewards:broken"}}


def broken(rollouts: list[Rollout]) -> Any:
    raise RuntimeError("no such table")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ti")


def training(world: Path, out: Path) -> list[str]:
    sizes = {"per_device_train_batch_size": CALLS, "num_generations": CALLS // 2, "max_completion_length": 1}
    return [str(config(world, out / "run.yaml", rewards=BROKEN, min_calls=CALLS, grpo={**sizes, "max_steps": 1}))]


def scoring(world: Path, out: Path) -> list[str]:
    (out / "suite.yaml").write_text(yaml.safe_dump({"rewards": BROKEN, "min_calls": CALLS}))
    (out / "rollouts.jsonl").write_text(f"{json.dumps({'completion': 'B', 'answer': 'B'})}\n" * CALLS)
    return ["score", str(out / "suite.yaml"), str(out / "rollouts.jsonl")]


@pytest.mark.parametrize(("verb", "arguments"), [("train", training), ("reward", scoring)])
def test_a_reward_that_always_fails_is_one_line(
    verb: str, arguments: Any, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    printed = says(verb, *arguments(world, tmp_path), status=1)
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith(f"mmrl {verb}: reward mine failed on {CALLS} of its last {CALLS} ")
