"""`mmrl train --plan` and `--smoke`: what a config means, and whether it runs, before a GPU is rented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.plan import batch_arithmetic, memory, plan, sharding_stage
from mmrl.train.smoke import miniature
from mmrl.train.stages import run as run_stages
from tests.support.training import config, material, metrics, trained

GRPO = {"per_device_train_batch_size": 4, "num_generations": 2, "num_train_epochs": 3, "steps_per_generation": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivtt")


def test_the_arithmetic_of_a_batch() -> None:
    numbers = batch_arithmetic(
        processes=4, per_device=2, accumulation=8, per_generation=16, group=8, prompts=1000, steps=10
    )
    assert numbers["rollouts a step"] == 64
    assert numbers["rollouts a generation"] == 128
    assert numbers["prompts a generation"] == 16
    assert numbers["optimizer steps a generation"] == 2
    assert numbers["rollouts in all"] == 640


@pytest.mark.parametrize(("stage", "expected"), [(0, 4 + 4 + 8), (2, 4 + 2 + 4), (3, 2 + 2 + 4)])
def test_memory_is_divided_as_zero_does(stage: int, expected: float) -> None:
    table = [{"part": "language", "parameters": 2**30, "trainable": 2**30}]
    assert sum(list(memory(table, "float32", reference=False, stage=stage, processes=2).values())[:-1]) == expected
    with pytest.raises(InputError, match="dtype='int4'"):
        memory(table, "int4", reference=False, stage=0, processes=1)


@pytest.mark.parametrize(
    ("settings", "stage"), [({}, 0), ({"deepspeed": "configs/train/zero2.json"}, 2), ({"fsdp": True}, 3)]
)
def test_the_plan_divides_memory_as_the_run_will(settings: dict[str, Any], stage: int) -> None:
    assert sharding_stage(SimpleNamespace(**{"deepspeed": None, "fsdp": None} | settings)) == stage


def test_frozen_parts_and_adapters_show_in_the_plan(world: Path, tmp_path: Path) -> None:
    free = dict(plan(load(TrainConfig, config(world, tmp_path / "a.yaml", grpo=GRPO)))[0][1])
    frozen = dict(plan(load(TrainConfig, config(world, tmp_path / "b.yaml", grpo=GRPO, freeze=["vision"])))[0][1])
    adapters = dict(plan(load(TrainConfig, config(world, tmp_path / "c.yaml", grpo=GRPO, lora={"r": 2})))[0][1])
    total = free["vision"].split()[0]
    assert free["vision"] == f"{total} ({total} train)"
    assert frozen["vision"] == f"{total} (0 train)"
    assert frozen["language"] == free["language"]
    assert adapters["language"] != free["language"]
    place = config(world, tmp_path / "d.yaml", grpo=GRPO, lora={"r": 2}, freeze=["vision", "projector"])
    partly = dict(plan(load(TrainConfig, place))[0][1])
    assert partly["language"] == adapters["language"]
    assert partly["vision"].endswith(" (0 train)")
    assert partly["projector"].endswith(" (0 train)")


@pytest.mark.parametrize(
    ("block", "changes", "steps"),
    [
        ("grpo", {"num_iterations": 2, "num_train_epochs": 2}, 8),
        ("grpo", {"gradient_accumulation_steps": 2}, 3),
        ("grpo", {"steps_per_generation": 2, "num_train_epochs": 1.5}, 3),
        ("sft", {"num_train_epochs": 3}, 6),
        ("sft", {"gradient_accumulation_steps": 3, "num_train_epochs": 2}, 2),
    ],
)
def test_a_run_makes_the_steps_of_its_plan(
    block: str, changes: dict[str, Any], steps: int, world: Path, tmp_path: Path
) -> None:
    values = {"grpo": None, block: {"per_device_train_batch_size": 4, "save_strategy": "no", **changes}}
    place = config(world, tmp_path / "run.yaml", **values)
    planned = next(dict(rows) for title, rows in plan(load(TrainConfig, place)) if title == f"{block}: batch")
    out = trained(place)
    done = [line["step"] for line in metrics(out / "sft" if block == "sft" else out) if "loss" in line]
    assert (planned["optimizer steps"], done) == (str(steps), list(range(1, steps + 1)))


def test_the_plan_is_printed_and_nothing_is_left(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    output = says("train", config(world, tmp_path / "run.yaml", grpo=GRPO), "--plan")
    for row in ("rollouts a step", "optimizer steps", "Adam's moments", "rewards by task", "temporal (1)"):
        assert row in output
    steps = next(line for line in output.splitlines() if "optimizer steps " in line and "generation" not in line)
    assert (
        "6" in steps
    )  # 3 epochs of one generation of 4 prompts, 2 rollouts each, 4 a step; the fifth prompt is left out
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


def test_a_plan_for_four_processes_needs_only_one(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", grpo=GRPO | {"num_generations": 4, "steps_per_generation": 1})
    line = [sys.executable, "-m", "mmrl", "train", str(place), "--plan"]
    done = subprocess.run(line, env=os.environ | {"WORLD_SIZE": "4"}, capture_output=True, text=True, timeout=120)
    assert re.search(r"processes +│ 4 ", done.stdout), done.stderr


def test_smoke_runs_every_stage_with_a_twin(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    grpo = GRPO | {"num_generations": 4, "deepspeed": "configs/train/zero3.json", "use_cpu": False, "max_steps": 900}
    place = config(world, tmp_path / "run.yaml", sft={"max_steps": 700}, grpo=grpo, freeze=["vision"])
    assert "smoke test passed" in says("train", place, "--smoke")
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


@pytest.mark.parametrize("limit", [1, 3])
def test_smoke_makes_its_steps_with_few_samples(limit: int, world: Path, tmp_path: Path) -> None:
    few = config(world, tmp_path / "run.yaml", grpo={"num_generations": 8, "eval_on_start": True}, limit=limit, sft={})
    small = miniature(load(TrainConfig, few), tmp_path)
    run_stages(small)
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == [1, 2]
    assert (small.sft or {})["max_steps"] == 2


def test_smoke_needs_a_twin(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    from transformers import LlavaConfig

    (tmp_path / "llava").mkdir()
    LlavaConfig().save_pretrained(tmp_path / "llava")
    place = config(world, tmp_path / "run.yaml", grpo=GRPO, model=str(tmp_path / "llava"))
    assert "no tiny twin of a llava" in says("train", place, "--smoke", status=2)
