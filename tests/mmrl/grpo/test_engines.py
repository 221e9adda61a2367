"""Training with completions of an engine that gets the policy's weights, and whose server may die."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmrl.core.config import InputError, load
from mmrl.engine.client import Client
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.trainers.callbacks import read_metrics
from tests.support.engine_server import COMMAND, serving
from tests.support.runs import assert_same_run, assert_same_weights
from tests.support.training import config, ended, material, metrics, rollouts, trained

STEPS = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4}
AHEAD = {"ahead": 1, "importance_cap": 2.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivp" * 2)


@pytest.fixture(scope="module")
def running(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(world / "model", tmp_path_factory.mktemp("log") / "engine.log") as client:
        yield client


@pytest.fixture
def server(running: Client) -> Iterator[Client]:
    yield running
    running.told("disturb")


def served(world: Path, place: Path, at: Client | None, grpo: Any = STEPS, lora: Any = None, **rollout: Any) -> Path:
    """A config whose completions come from the server, or from one of its own."""
    reached: dict[str, Any] = {"command": COMMAND} if at is None else {"base_url": at.address}
    reached |= {"exchange": str(place.with_suffix(".x")), "check_every": 2}
    return config(world, place, grpo=grpo, lora=lora, rollout={"engine": "vllm", "vllm": reached, **rollout})


def gaps(out: Path) -> list[float]:
    return [line["engine/gap"] for line in read_metrics(out / "metrics.jsonl") if "engine/gap" in line]


def servers_of(model: Path) -> list[int]:
    """The processes that serve a model."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if str(model).encode() in words and b"mmrl.engine.keeper" not in words:
            found.append(int(place.parent.name))
    return found


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_whose_server_is_killed_ends_as_an_undisturbed_one(
    world: Path, server: Client, kills: int, tmp_path: Path
) -> None:
    grpo = {**STEPS, "max_steps": 4 * kills}
    whole = trained(served(world, tmp_path / "whole.yaml", server, grpo))
    assert len(gaps(whole)) >= 2 * kills
    assert max(gaps(whole)) < 1e-4
    shutil.copytree(world, tmp_path / "own")  # by its model's path the server is found
    killed: set[int] = set()
    chance, over = random.Random(0), threading.Event()

    def kill() -> None:
        while len(killed) < kills and not over.wait(chance.uniform(0.5, 1.0)):
            log = tmp_path / "broken" / "metrics.jsonl"
            for pid in set(servers_of(tmp_path / "own" / "model")) - killed:
                if len(read_metrics(log)) > 3 * len(killed):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        broken = trained(served(tmp_path / "own", tmp_path / "broken.yaml", None, grpo))
    finally:
        over.set()
        killer.join()
    assert len(killed) == kills
    assert (tmp_path / "broken.0.log").read_text().count("the engine failed (gone") == kills
    assert not servers_of(tmp_path / "own" / "model")
    assert metrics(whole) == metrics(broken)
    assert_same_weights(whole, broken)
    answers = [
        [(row["id"], row["completion"]) for rows in rollouts(out).values() for row in rows] for out in (whole, broken)
    ]
    assert answers[0] == answers[1]


def test_completions_drawn_ahead_are_the_same_twice_and_after_a_kill(
    world: Path, server: Client, tmp_path: Path
) -> None:
    """A step learns from completions of the weights before it; those drawn at a checkpoint are in it."""
    whole = trained(served(world, tmp_path / "whole.yaml", server, **AHEAD))
    drawn_at = {name: {row["drawn_at"] for row in rows} for name, rows in rollouts(whole).items()}
    assert list(drawn_at.values()) == [{0}, {0}, {1}, {2}]
    broken = served(world, tmp_path / "broken.yaml", server, **AHEAD)
    trained(broken, dies=True, DIE_AT="3")
    assert (tmp_path / "broken" / "checkpoint-2" / "ahead_0.json").exists()
    assert_same_run(whole, trained(broken))
    lines = [line for line in read_metrics(whole / "metrics.jsonl") if "importance/mean" in line]
    assert len(lines) == 4
    assert abs(lines[0]["importance/mean"] - 1) < 0.05  # as far as banned tokens had a chance
    assert all(line["importance/mean"] != lines[0]["importance/mean"] for line in lines[2:])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"grpo": {"fsdp": True}}, marks=pytest.mark.slow),
        pytest.param({"grpo": {"fsdp": True}, "lora": {"r": 4}}, marks=pytest.mark.slow),
    ],
)
def test_two_processes_share_a_server_and_resume_exactly(
    settings: dict[str, Any], world: Path, server: Client, tmp_path: Path
) -> None:
    server.told("mmrl_load", str(world / "model"))  # adapters come to the base that it has
    grpo = {**STEPS, "per_device_train_batch_size": 2, **settings.get("grpo", {})}
    two: Any = {"processes": 2, **({"FSDP": "1"} if "fsdp" in grpo else {})}
    runs = [
        served(world, tmp_path / name, server, grpo, settings.get("lora"), **AHEAD)
        for name in ("whole.yaml", "broken.yaml")
    ]
    whole = trained(runs[0], **two)
    trained(runs[1], dies=True, DIE_AT="3", **two)
    assert_same_run(whole, trained(runs[1], **two))
    assert max(gaps(whole)) < 1e-4


def test_adapters_are_trained_with_an_engine(world: Path, server: Client, tmp_path: Path) -> None:
    server.told("mmrl_load", str(world / "model"))  # a server of others keeps its base
    out = trained(served(world, tmp_path / "lora.yaml", server, lora={"r": 4}))
    assert max(gaps(out)) < 1e-4
    assert len({row["completion"] for rows in rollouts(out).values() for row in rows}) > 8


@pytest.mark.parametrize("rollout", [{}, {"refills": 1}, {"importance_cap": 2.0, "inject": {}}])
def test_engines_go_with_other_settings_of_rollouts(
    world: Path, server: Client, rollout: dict[str, Any], tmp_path: Path
) -> None:
    cosine = {"temperature": {"schedule": "cosine", "start": 1.2}} if not rollout else {}
    out = trained(served(world, tmp_path / "out.yaml", server, {**STEPS, "max_steps": 2}, **rollout, **cosine))
    assert len(rollouts(out)) == 2


def test_an_engine_that_disagrees_with_the_trainer_is_refused(world: Path, server: Client, tmp_path: Path) -> None:
    server.told("disturb", "shift")
    codes, output = ended(served(world, tmp_path / "out.yaml", server), [{}])
    assert codes == [2]
    message = next(line for line in output.splitlines() if "disagree" in line)
    assert "the engine and the trainer disagree about prompts with text (log-probs of the same tokens" in message
    assert "differ by: text 5.0e-01" in message
    assert len(message) <= 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["grpo.use_vllm=true"], r"grpo.use_vllm=True has no effect in this trainer; use rollout: \{engine: vllm\}"),
        (
            ["grpo.vllm_server_port=9"],
            "grpo.vllm_server_port=9 has no effect in this trainer; use the block rollout.vllm",
        ),
        (["rollout.vllm.deadline=9"], "the block vllm goes with engine: vllm, not with engine: local"),
        (["rollout.ahead=1"], "ahead: 1 lets the engine draw while the trainer learns; it needs engine: vllm"),
        (["rollout.engine=sglang"], r"rollout.engine: .*'local' or 'vllm' \(got 'sglang'\)"),
        (
            ["rollout.engine=vllm", "rollout.temperature.schedule=ead"],
            "gives every token a temperature of its own, vLLM has one for a completion",
        ),
        (
            ["rollout.engine=vllm", "rollout.ahead=1", "rollout.temperature.schedule=cosine"],
            "ahead: 1 draws before the step whose temperature is known",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(world: Path, changes: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check(load(TrainConfig, config(world, tmp_path / "config.yaml", grpo={}), changes))
