"""Two processes with tools give the results of one, though only one of them has pictures behind its prompts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from torch.testing import assert_close

from mmrl.core.vision import VisionBudget
from mmrl.trainers.dummy_media import DummyMedia
from mmrl.trainers.given import rows
from tests.mmrl.test_distributed import sharded, two
from tests.support.callers import calling_material
from tests.support.scripted import call
from tests.support.training import config, metrics, rollouts, tiny_policy, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A question about a picture, which a tool crops, and one without: each process has one of them."""
    return calling_material(tmp_path_factory.mktemp("world"), "it", call("crop", box=[0, 0, 28, 28]), ["crop"])


def settings(processes: int, **every: Any) -> dict[str, Any]:
    grpo = {"per_device_train_batch_size": 4 // processes, "shuffle_dataset": False, "max_steps": 2}
    grpo |= {"max_completion_length": 120, "save_strategy": "no", "learning_rate": 1e-4}
    return {"grpo": grpo | every, "rollout": {"tools": ["crop"], "max_turns": 3}}


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(config(world, tmp_path_factory.mktemp("alone") / "run.yaml", **settings(1)))


@pytest.mark.parametrize("way", ["ddp", *[pytest.param(way, marks=pytest.mark.slow) for way in ("zero3", "fsdp2")]])
def test_two_processes_do_what_one_does(way: str, world: Path, alone: Path, tmp_path: Path) -> None:
    out = two(way, config(world, tmp_path / "run.yaml", **settings(2, **sharded(way))), timeout=200)
    for expected, got in zip(metrics(alone), metrics(out), strict=True):
        assert expected["tools/ok"] > 0 < expected["tools/refused"]
        compared = [key for key in expected if key in ("loss", "grad_norm") or key.startswith("tools/")]
        assert_close([got[key] for key in compared], [expected[key] for key in compared], atol=1e-5, rtol=1e-4)
    for expected, got in zip(rollouts(alone).values(), rollouts(out).values(), strict=True):
        assert_close([row.pop("advantage") for row in got], [row.pop("advantage") for row in expected])
        assert got == expected


def test_sharded_processes_are_ready_for_any_media_of_a_tool(budget: VisionBudget) -> None:
    """The training set has none, and a tool may show a picture or a video to one process alone."""
    _, processor = tiny_policy(budget)
    of_two = SimpleNamespace(is_deepspeed_enabled=True, is_fsdp_enabled=False, args=SimpleNamespace(world_size=2))
    texts = rows(Dataset.from_list([{"prompt": "One or two?", "answer": "one"}]))
    assert DummyMedia(of_two, processor, texts).kinds == set()
    dummies = DummyMedia(of_two, processor, texts, tools=True)
    assert [row.kinds for row in dummies.lacking([])] == [("image", "video")]
