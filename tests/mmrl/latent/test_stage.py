"""The stage `latent`: from a config to answers behind thoughts; killed, in two processes, and refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from eval.decode.config import LatentReasoning
from mmrl.model.loading import SHIPPED, fingerprint
from mmrl.trainers.callbacks import read_metrics
from tests.support.runs import assert_a_kill_changes_nothing, assert_same_weights
from tests.support.training import REWARDS, VISION, config, material, metrics, rollouts, trained

LATENT = {
    **{"use_cpu": True, "max_steps": 6, "save_steps": 2, "logging_steps": 1, "learning_rate": 1e-2},
    **{"per_device_train_batch_size": 4, "num_generations": 3, "max_completion_length": 6},
    **{"latent_place": "end", "latent_steps": 2, "width": 16, "deviation": 2.0},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivpttiv")


def thinking(world: Path, place: Path, latent: Any = None, **changes: Any) -> Path:
    """A config of the stage alone."""
    return config(world, place, model=str(SHIPPED), grpo=None, latent={**LATENT, **(latent or {})}, **changes)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that draws more thoughts than it answers."""
    place = tmp_path_factory.mktemp("run") / "run.yaml"
    return trained(thinking(world, place, {"draws": 5})) / "latent"


def test_the_head_learns_and_knows_its_model(run: Path) -> None:
    assert yaml.safe_load((run / "final" / "config.json").read_text())["backbone"] == fingerprint(SHIPPED)
    assert any(load_file(run / "final" / "model.safetensors")["said.weight"].flatten().tolist())
    line = metrics(run)[-1]
    assert {"latent/policy", "latent/contrast", "latent/spread", "latent/prediction", "reward"} <= line.keys()
    assert any("latent/rank_correlation" in line for line in metrics(run))


def test_the_reward_rises(world: Path, tmp_path: Path) -> None:
    """Thoughts of four numbers learn what makes a frozen model write more vowels."""
    latent = {"max_steps": 30, "per_device_train_batch_size": 8, "num_generations": 8, "latent_size": 4}
    latent |= {"deviation": 1.0, "save_strategy": "no"}
    place = thinking(world, tmp_path / "run.yaml", latent, rewards={"letters": REWARDS["letters"]})
    rewards = [line["reward"] for line in metrics(trained(place) / "latent")]
    assert fmean(rewards[-5:]) > fmean(rewards[:5]) + 0.004


def test_its_answers_are_in_rollout_files(run: Path) -> None:
    files = rollouts(run)
    assert list(files) == [f"step-{step:05d}.parquet" for step in range(1, 7)]
    rows = [row for rows in files.values() for row in rows]
    assert len(rows) == 6 * 4 * 3
    assert {row["draw"] for row in rows} == {0, 1, 2}
    assert any(row["advantage"] for row in rows)


def test_its_answers_are_looked_at_for_pairs(run: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    """From the folder of the stage as from that of the run; here the token limit has cut all of them."""
    for place in (run, run.parent):
        printed = says("data", "pairs", place, "--reward", "letters", "--out", tmp_path / "pairs", status=2)
        assert "24 groups: fewer than two whole answers with a score" in printed
    printed = says("data", "steps", run, "--after", " ", "--reward", "letters", "--out", tmp_path / "steps", status=2)
    assert "72 answers: cut by the token limit, or injected" in printed


def test_what_it_has_learned_answers_an_evaluation(
    world: Path, run: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    values = {"data": {"path": str(world / "data"), "split": "train"}, "rewards": REWARDS, "vision": VISION}
    values |= {"model": "demo", "out": str(tmp_path / "eval"), "sampling": {"max_new_tokens": 6}}
    place = tmp_path / "eval.yaml"
    place.write_text(yaml.safe_dump({**values, "decode": {"method": "latent", "head": str(run / "final")}}))
    says("eval", "run", place)
    assert "Decoded by latent." in (tmp_path / "eval" / "report.md").read_text()
    says("eval", "run", place)  # nothing is asked again
    assert "was trained before another model" in says(
        "eval", "run", place, f"model={world / 'model'}", f"out={tmp_path / 'b'}", status=2
    )


def test_a_head_is_known_by_its_files(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "final", tmp_path / "copy")
    first, copy = (LatentReasoning(method="latent", head=str(place)) for place in (run / "final", tmp_path / "copy"))
    assert copy.protocol() == first.protocol()
    weights = {name: value + 1 for name, value in load_file(tmp_path / "copy" / "model.safetensors").items()}
    save_file(weights, tmp_path / "copy" / "model.safetensors")
    assert copy.protocol() != first.protocol()


def test_killed_it_ends_where_it_would_have_ended(world: Path, tmp_path: Path) -> None:
    lines = assert_a_kill_changes_nothing("latent", lambda place: thinking(world, place), tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_two_processes_do_what_one_does(world: Path, tmp_path: Path) -> None:
    """The contrast is among the prompts of a process, so it is left out here."""
    alone = {"max_steps": 2, "contrast": 0.0, "spread": 0.0}
    one = trained(thinking(world, tmp_path / "one.yaml", alone)) / "latent"
    halves = {**alone, "per_device_train_batch_size": 2}
    two = trained(thinking(world, tmp_path / "two.yaml", halves), processes=2) / "latent"
    for name, rows in rollouts(one).items():
        other = {(row["id"], row["draw"]): row for row in rollouts(two)[name]}
        for row in rows:
            found = other[row["id"], row["draw"]]
            assert found["completion"] == row["completion"]
            assert found["advantage"] == pytest.approx(row["advantage"], abs=1e-6)
    for line, other in zip(metrics(one), metrics(two), strict=True):
        told = ("reward", "loss", "grad_norm", "latent/policy")
        assert [other[name] for name in told] == pytest.approx([line[name] for name in told], rel=1e-4, abs=1e-5)


def test_it_is_evaluated_while_it_trains(world: Path, tmp_path: Path) -> None:
    asked = {"data": {"path": str(world / "data"), "split": "train"}}
    config_of = thinking(
        world, tmp_path / "run.yaml", {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}, evaluation=asked
    )
    out = trained(config_of) / "latent"
    assert [line["step"] for line in read_metrics(out / "metrics.jsonl") if "eval_reward" in line] == [1, 2]
    assert (out / "eval" / "step-00002" / "report.json").is_file()


def test_it_follows_a_stage_that_trains_the_model(world: Path, tmp_path: Path) -> None:
    sft = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no"}
    out = trained(thinking(world, tmp_path / "run.yaml", {"max_steps": 2}, sft=sft))
    known = yaml.safe_load((out / "latent" / "final" / "config.json").read_text())["backbone"]
    assert known == fingerprint(out / "sft" / "final")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latent": {"draws": 2}}, "latent.draws=2: latent.num_generations=3 are chosen of them"),
        ({"latent": {"num_generations": 1}}, "latent.num_generations=1; a group has at least 2 thoughts"),
        ({"latent": {"deviation": 0.0}}, "latent.deviation=0; it must be above 0"),
        ({"latent": {"latent_place": "start"}}, "latent.latent_place='start'; known: begin, end"),
        ({"latent": {"deepspeed": "configs/train/zero2.json"}}, "leave deepspeed and fsdp out"),
        ({"latent": {"latent_step": 3}}, "unknown key latent.latent_step (value 3); did you mean latent_steps"),
        ({"advantages": {"tokens": {"sibling": {}}}}, "and a thought has none; remove it"),
        ({"rollout": {"tree": {"branches": 3}}}, "rollout.tree is for grpo; behind a thought the answer is greedy"),
        ({"rollout": {"refills": 1}}, "rollout.refills is for grpo"),
        ({"lora": {"r": 2}}, "lora: latent trains a head, and the model stays as it is"),
        ({"freeze": ["vision"]}, "freeze: latent trains a head, and the model stays as it is"),
        ({"rollout": {"tools": ["zoom"], "told": "Zoom."}}, "a thought stands before an answer of one turn"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    change: dict[str, Any], words: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    assert words in says("train", thinking(world, tmp_path / "run.yaml", **change), status=2)
    assert not (tmp_path / "run" / "latent").exists()


def test_the_plan_counts_thoughts_and_the_smoke_test_answers(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    place = thinking(world, tmp_path / "run.yaml", {"draws": 5})
    told = [line.split() for line in says("train", place, "--plan").splitlines()]
    assert ["│", "thoughts", "a", "step", "│", "20", "│"] in told
    assert ["│", "answers", "a", "step", "│", "12", "│"] in told
    assert "reward letters: 16 of 16 rollouts scored" in says("train", place, "--smoke")


def test_the_same_seed_gives_the_same_head(world: Path, tmp_path: Path) -> None:
    one, other = (trained(thinking(world, tmp_path / f"{name}.yaml", {"max_steps": 2})) for name in ("one", "other"))
    assert_same_weights(one / "latent", other / "latent")
