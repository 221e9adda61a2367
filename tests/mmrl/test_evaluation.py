"""Evaluation while a model trains: the records of `mmrl eval run`, and the best checkpoint kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eval.records import Record, read_records
from eval.run import EvalConfig
from eval.run import run as run_evaluation
from mmrl.core.config import InputError, load, validate
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.trainers.callbacks import read_metrics
from tests.support.training import VISION, config, material, metrics, trained

EVERY = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "all/letters"}
BEST = {**EVERY, "load_best_model_at_end": True, "save_steps": 8, "save_total_limit": 1, "max_steps": 8}
SAMPLING = {"do_sample": True, "samples": 2, "max_new_tokens": 6}
LETTERS = {"letters": {"fn": "tests.support.training:letters"}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivp" * 2)


def evaluation(world: Path) -> dict[str, Any]:
    return {"data": {"path": str(world / "data"), "split": "train"}, "sampling": SAMPLING, "rewards": LETTERS}


def evaluations(out: Path) -> dict[int, dict[str, Any]]:
    """The measurements, by step."""
    return {line["step"]: line for line in read_metrics(out / "metrics.jsonl") if "eval_reward" in line}


def best_step(out: Path) -> int:
    scores = {step: line["eval_all/letters"] for step, line in evaluations(out).items()}
    return max(scores, key=lambda step: (scores[step], -step))


def responses_of(records: list[Record]) -> dict[tuple[str, int], tuple[str, Any]]:
    return {(record.item_id, record.draw): (record.response, record.scores) for record in records}


def answers(world: Path, model: Path, out: Path) -> dict[tuple[str, int], tuple[str, Any]]:
    """The records of `mmrl eval run` for a checkpoint."""
    values = {**evaluation(world), "model": str(model), "out": str(out), "vision": VISION}
    return responses_of(run_evaluation(validate(EvalConfig, values, where="test")))


def same_weights(first: Path, other: Path) -> bool:
    weights, others = (load_file(place / "model.safetensors") for place in (first, other))
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_training_is_evaluated_as_by_hand_and_ends_with_the_best_model(world: Path, tmp_path: Path) -> None:
    """Undisturbed by its evaluations; killed amid one, and again after a step, it ends as if it had not been."""
    out = trained(config(world, tmp_path / "whole.yaml", grpo=BEST, evaluation=evaluation(world)))
    assert list(evaluations(out)) == [2, 4, 6, 8]
    best = best_step(out)
    assert same_weights(out / "final", out / f"checkpoint-{best}")
    assert sorted(place.name for place in out.glob("checkpoint-*")) == [f"checkpoint-{best}"]
    records = read_records(out / "eval" / f"step-{best:05d}")
    assert len(records) == 16
    assert responses_of(records) == answers(world, out / f"checkpoint-{best}", tmp_path / "by_hand")
    assert (out / "eval" / "step-00002" / "report.md").is_file()

    plain = trained(config(world, tmp_path / "plain.yaml", grpo={"max_steps": 8, "save_steps": 8}))
    assert metrics(plain) == metrics(out)

    broken = config(world, tmp_path / "broken.yaml", grpo=BEST, evaluation=evaluation(world))
    trained(broken, dies=True, DIE_OPENING="eval/step-00004/records.jsonl")
    trained(broken, dies=True, DIE_AT="7")
    again = trained(broken)
    assert evaluations(again) == evaluations(out)
    assert same_weights(again / "final", out / "final")


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [{}, {"fsdp": True}])
def test_adapters_and_several_processes_are_evaluated_too(fsdp: dict[str, Any], world: Path, tmp_path: Path) -> None:
    blocks = {"sft": {**BEST, "per_device_train_batch_size": 2, **fsdp}, "grpo": None, "lora": {"r": 4}}
    place = config(world, tmp_path / "two.yaml", **blocks, evaluation=evaluation(world))
    shards: Any = {"FSDP": "1"} if fsdp else {}
    out = trained(place, processes=2, **shards) / "sft"
    assert list(evaluations(out)) == [2, 4, 6, 8]
    for step in evaluations(out):
        assert len(read_records(out / "eval" / f"step-{step:05d}")) == 16
        assert not list((out / "eval").rglob("*.part.jsonl"))
    best = f"step-{best_step(out):05d}"
    assert responses_of(read_records(out / "eval" / best)) == answers(world, out / "final", tmp_path / "by_hand")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": None}, r"grpo\.eval_strategy=steps needs an `evaluation:` block"),
        ({"grpo": {"eval_strategy": "no"}}, "but no stage evaluates"),
        ({"grpo": {"metric_for_best_model": "all/leters"}}, "'all/leters' is not measured; did you mean all/letters"),
        ({"evaluation": {"data": {"path": "", "split": "dev"}}}, "has no split 'dev'; known: train"),
        ({"grpo": {"steps_per_generation": 3, "save_steps": 6}}, "eval_steps=2 is not a multiple of 3"),
    ],
)
def test_a_wrong_evaluation_is_refused_before_the_first_step(
    world: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"grpo": EVERY, "evaluation": evaluation(world)}
    for key, value in change.items():
        given[key] = {**given[key], **value} if value else value
    if given["evaluation"]:
        given["evaluation"]["data"]["path"] = str(world / "data")
    with pytest.raises(InputError, match=message):
        check(load(TrainConfig, config(world, tmp_path / "wrong.yaml", **given)))
    assert not os.path.exists(tmp_path / "wrong")
