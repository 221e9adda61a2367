"""Injected ground truth: a gold answer among the rollouts, in the model's format, and in no metric of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_engine.schema import Sample
from mmrl.advantages.visurf import visurf
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.grpo.injection import Injection, check_injection, lengths_logged, own_entropy
from mmrl.model.tiny_twins import tiny_model
from mmrl.trainers.callbacks import read_metrics
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import assert_own_logps, trainer
from tests.support.runs import assert_same_run
from tests.support.training import config, material, rollouts, tiny_policy, trained

VISURF = {
    "rewards": {"format": {"fn": "think_format"}, "accuracy": {"fn": "number_match", "tasks": ["count"]}},
    "advantages": {"name": "visurf"},
    "rollout": {"inject": {"unrewarded": ["format"]}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ipip")


def test_lengths_are_those_of_the_policy() -> None:
    lengths, ended = torch.tensor([4, 8, 20]), torch.tensor([True, False, True])
    logged = lengths_logged(lengths, ended, torch.tensor([False, False, True]))
    assert logged["completions/mean_length"] == 6
    assert logged["completions/max_length"] == 8
    assert logged["completions/clipped_ratio"] == 0.5
    assert logged["completions/mean_terminated_length"] == 4


def test_the_mean_entropy_is_that_of_the_policy() -> None:
    entropy = torch.tensor([[1.0, 3.0], [9.0, 9.0]])
    mask = torch.tensor([[1, 1], [1, 1]])
    own = own_entropy(entropy, mask, torch.tensor([False, True]))
    assert own[0].tolist() == [1.0, 3.0]
    assert (own * mask).sum() / mask.sum() == 2.0


@pytest.mark.parametrize(
    ("injection", "estimator", "message"),
    [
        (Injection(unrewarded=("forma",)), "visurf", "no reward 'forma'; there are format"),
        (Injection(unrewarded=("format",)), "gdpo", "gdpo controls no rewards"),
        (Injection(form="{thought}"), "visurf", r"rollout.inject.form='\{thought\}'"),
    ],
)
def test_what_cannot_be_injected_is_refused(injection: Injection, estimator: str, message: str) -> None:
    from mmrl.advantages import options_of

    with pytest.raises(InputError, match=message):
        check_injection(injection, ["format"], estimator, options_of(estimator))


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_log_probs_of_labels_are_the_policys_own(
    shared_prefix: bool, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    run = trainer(
        tmp_path, model, processor, mixed_samples, budget, shared_prefix=shared_prefix, inject=Injection(),
        max_completion_length=40, learning_rate=1e-8, gradient_accumulation_steps=2, steps_per_generation=4,
        per_device_train_batch_size=5, num_generations=4, max_steps=2,
    )  # fmt: skip
    plain, _ = tiny_model("qwen2_5_vl", TEXTS)
    run.train()
    assert_own_logps(run, plain)
    rows = [row for file in rollouts(tmp_path).values() for row in file]
    labels = [row for row in rows if row["injected"]]
    assert [row["draw"] for row in labels] == [3] * 5
    assert {row["completion"] for row in labels if row["task"] == "yesno"} == {
        "<think>I see</think><answer>yes</answer>"
    }
    grounded = next(row for row in labels if row["task"] == "grounding")
    assert "</think><answer>[" in grounded["completion"]


def test_a_label_that_does_not_fit_is_left_out(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    run = trainer(tmp_path, model, processor, mixed_samples, budget, inject=Injection(), max_completion_length=3)
    run.train()
    assert not any(row["injected"] for file in rollouts(tmp_path).values() for row in file)


def test_a_visurf_run_is_controlled_and_logged_without_the_labels(world: Path, tmp_path: Path) -> None:
    grpo = {"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 2, "max_completion_length": 24}
    out = trained(config(world, tmp_path / "run.yaml", grpo=grpo, **VISURF))
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    for line, rows in zip(lines, rollouts(out).values(), strict=True):
        own = [row for row in rows if not row["injected"]]
        assert len(own) == 6
        assert line["completions/mean_length"] == pytest.approx(np.mean([row["tokens"] for row in own]))
        assert line["rewards/accuracy/mean"] == pytest.approx(np.mean([row["score/accuracy"] for row in own]))
        rewards = np.array([[row["score/format"], row["score/accuracy"]] for row in rows]).reshape(2, 4, 2)
        label = np.array([row["injected"] for row in rows]).reshape(2, 4)
        assert rewards[label].tolist() == [[1.0, 1.0]] * 2  # the label would be right, and well formed
        expected: Any = visurf(rewards, np.ones(2), injected_PG=label, thinking_K=[True, False])
        got = np.array([row["advantage"] for row in rows]).reshape(2, 4)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert (got[label] > 0).all()


def test_everything_at_once_resumes_exactly(world: Path, tmp_path: Path) -> None:
    """Injection, refilling and a schedule of temperatures, killed amid the run."""
    rollout = {
        "refills": 2,
        "temperature": {"schedule": "ead", "head": 2, "d0": 4.0},
        "inject": {"unrewarded": ["format"]},
    }
    grpo = {
        "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 4, "save_steps": 1,
        "max_completion_length": 24,
    }  # fmt: skip
    changes = (
        VISURF
        | {"rollout": rollout}
        | {"rewards": VISURF["rewards"] | {"letters": {"fn": "tests.support.training:letters"}}}
    )
    whole = trained(config(world, tmp_path / "whole.yaml", grpo=grpo, **changes))
    broken = config(world, tmp_path / "broken.yaml", grpo=grpo, **changes)
    trained(broken, dies=True, DIE_AT="2")
    assert_same_run(whole, trained(broken))


def test_two_processes_inject_the_same_labels(world: Path, tmp_path: Path) -> None:
    grpo = {"num_generations": 4, "max_steps": 2, "max_completion_length": 24}
    first = trained(config(world, tmp_path / "one.yaml", grpo=grpo | {"per_device_train_batch_size": 8}, **VISURF))
    halves = config(world, tmp_path / "two.yaml", grpo=grpo | {"per_device_train_batch_size": 4}, **VISURF)
    two = trained(halves, processes=2)
    for mine, theirs in zip(rollouts(first).values(), rollouts(two).values(), strict=True):
        assert [row["injected"] for row in mine] == [row["injected"] for row in theirs]
        assert [row["completion"] for row in mine] == [row["completion"] for row in theirs]
