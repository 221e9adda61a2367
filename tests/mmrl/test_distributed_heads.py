"""Two processes train the reward head of one, where the answers of a batch have unequal numbers of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, with_id
from tests.mmrl.test_distributed import ZERO, sharded, two
from tests.support.training import config, material, metrics, questions, trained

KINDS = {  # of media, of the questions in their order; sharded parameters need batches whose media are alike
    "mixed": "ttvi" + "pvtt",
    "alike": "i" * 8,
}
STEPS = ["I see it.", " It is new.", " So it is two."]


def answered(kinds: str, place: Path, task: str) -> Iterator[Sample]:
    """Questions whose answers are of two or three candidates, or of one to three steps with scores."""
    for number, sample in enumerate(questions(kinds, place)):
        if task == "preference":
            candidates = [f"I see {word}" for word in ("two", "a seven", "nothing")][: 2 + number % 2]
            answer: dict[str, Any] = {"candidates": candidates, "preferred": number % 2}
        else:
            count = 1 + number % 3
            answer = {"steps": STEPS[:count], "step_scores": [0.9, 0.1, 0.6][:count]}
        yield with_id(replace(sample, task=task, answer=answer, meta={"task": sample.task, "split": "train"}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = material(tmp_path_factory.mktemp("world"), "t")
    for name, kinds in KINDS.items():
        for task in ("preference", "steps"):
            write_dataset(answered(kinds, out / "media" / name / task, task), out / f"{name}_{task}")
    return out


def head(world: Path, place: Path, kind: str, way: str, processes: int) -> Path:
    data = f"{'mixed' if way == 'ddp' else 'alike'}_{'steps' if kind in ('process', 'distilled') else 'preference'}"
    reward = {"per_device_train_batch_size": 4 // processes, "train_sampling_strategy": "sequential", "max_steps": 4}
    reward |= {"save_strategy": "no", "learning_rate": 3e-3} | (sharded(way) if processes > 1 else {})
    blocks: dict[str, Any] = {"head": {"kind": kind}, "preferences": {"path": str(world / data)}, "grpo": None}
    return config(world, place, reward=reward, **blocks)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("distilled", "ddp"),
        *(
            pytest.param(kind, way, marks=pytest.mark.slow)
            for kind in ("scalar", "multi_response", "process")
            for way in ("ddp",)
        ),
        *(
            pytest.param(kind, *way.values, marks=[pytest.mark.slow, *way.marks])
            for kind in ("scalar", "multi_response", "process", "distilled")
            for way in ZERO
        ),
    ],
)
def test_two_processes_train_the_head_of_one(kind: str, way: str, world: Path, tmp_path: Path) -> None:
    one = trained(head(world, tmp_path / "one.yaml", kind, way, 1)) / "reward"
    both = two(way, head(world, tmp_path / "two.yaml", kind, way, 2)) / "reward"
    for expected, got in zip(metrics(one), metrics(both), strict=True):
        names = ("loss", "accuracy", "grad_norm")
        assert_close([got[name] for name in names], [expected[name] for name in names], atol=1e-5, rtol=1e-4)
    weights, others = (load_file(out / "final" / "model.safetensors") for out in (one, both))
    if kind == "multi_response":  # a constant added to all scores changes no loss: its optimizer follows rounding
        del weights["score.down.bias"], others["score.down.bias"]
    assert_close(others, weights, atol=1e-3, rtol=0)
