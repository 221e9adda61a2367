"""Two processes give the results of one: the same rollouts, the same losses, whatever each of them happens to see."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from mmrl.grpo.shared_prefix.parity import DECIDED
from tests.support.training import config, material, metrics, rollouts, trained

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
ZERO = [
    pytest.param(way, marks=pytest.mark.skipif(not shutil.which("c++"), reason="DeepSpeed compiles for the CPU"))
    for way in ("zero2", "zero3")
]
SHARDED = [*ZERO, "fsdp2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four prompts a step, in this order. Of two processes the first sees only text in step 1, the second in step 2."""
    return material(tmp_path_factory.mktemp("world"), "ttvi" + "pvtt")


def blocks(processes: int, **every: Any) -> dict[str, Any]:
    """A warm-up and GRPO, two steps each; the batch over all processes is the same whatever their number."""
    every = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2} | every
    sft = {"per_device_train_batch_size": 4 // processes, "train_sampling_strategy": "sequential"}
    grpo = {"per_device_train_batch_size": 4 // processes, "gradient_accumulation_steps": 2, "shuffle_dataset": False}
    return {"sft": sft | every, "grpo": grpo | {"beta": 0.1} | every}


def sharded(way: str) -> dict[str, Any]:
    """What `grpo:` and `sft:` need for `way`; ZeRO as it is shipped, but that ZeRO-3 would leave weights as small as
    these in one piece."""
    if way == "ddp":
        return {}
    if way == "fsdp2":
        return {"fsdp": True}
    settings = json.loads((CONFIGS / f"{way}.json").read_text())
    settings["zero_optimization"] |= {"stage3_param_persistence_threshold": 0} if way == "zero3" else {}
    return {"deepspeed": settings}


def two(way: str, place: Path, **settings: Any) -> Path:
    """The output of a config, trained by two processes."""
    settings |= {"FSDP": "1"} if way == "fsdp2" else {}
    return trained(place, processes=2, **settings)


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(config(world, tmp_path_factory.mktemp("alone") / "run.yaml", **blocks(1)))


def assert_close_runs(first: Path, two: Path) -> None:
    for out in (first, two):  # prompts are shared, in scoring and in sampling
        decided = json.loads((out / "checkpoint-2" / DECIDED).read_text())
        assert decided == {"sharing": True, "behind": None, "prefilling": True}
    for stage in ("sft", "."):
        for expected, got in zip(metrics(first / stage), metrics(two / stage), strict=True):
            compared = ("loss", "kl", "grad_norm") if "kl" in expected else ("loss", "grad_norm")
            assert_close([got[key] for key in compared], [expected[key] for key in compared], atol=1e-5, rtol=1e-4)
    assert rollouts(first).keys() == rollouts(two).keys()
    for name, expected in rollouts(first).items():
        got = rollouts(two)[name]
        assert_close([row.pop("advantage") for row in got], [row.pop("advantage") for row in expected])
        assert got == expected
    weights, others = (load_file(out / "final" / "model.safetensors") for out in (first, two))
    others.pop("lm_head.weight", None)  # the embeddings under another name, which ZeRO-2 writes as well
    assert_close(others, weights, atol=1e-3, rtol=0)


@pytest.mark.parametrize("way", ["ddp", *SHARDED])
def test_two_processes_do_what_one_does(way: str, world: Path, alone: Path, tmp_path: Path) -> None:
    out = two(way, config(world, tmp_path / "run.yaml", **blocks(2, **sharded(way))))
    assert_close_runs(alone, out)
    assert (out / "checkpoint-2" / "pytorch_model_fsdp.bin").exists() == (way == "fsdp2")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", *SHARDED])
def test_two_processes_merge_the_adapters_of_one(way: str, world: Path, tmp_path: Path) -> None:
    alone = trained(config(world, tmp_path / "one.yaml", lora={"r": 4}, **blocks(1)))
    both = config(world, tmp_path / "two.yaml", lora={"r": 4}, **blocks(2, **sharded(way)))
    assert_close_runs(alone, two(way, both))


@pytest.mark.slow
@pytest.mark.parametrize("way", SHARDED)
def test_a_sharded_run_resumes_exactly(way: str, world: Path, tmp_path: Path) -> None:
    settings = blocks(2, max_steps=3, save_steps=1, **sharded(way))
    whole = two(way, config(world, tmp_path / "whole.yaml", **settings))
    broken = config(world, tmp_path / "broken.yaml", **settings)
    two(way, broken, dies=True, DIE_AT="2")
    two(way, broken)
    assert metrics(whole) == metrics(tmp_path / "broken")
    assert rollouts(whole) == rollouts(tmp_path / "broken")


@pytest.mark.slow
def test_torchrun_starts_two_processes(world: Path, alone: Path, tmp_path: Path) -> None:
    """As docs/guide/training.md says."""
    run = config(world, tmp_path / "run.yaml", **blocks(2))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    line += ["-m", "mmrl", "train", str(run)]
    subprocess.run(line, check=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert_close_runs(alone, tmp_path / "run")
