"""A head that learns from preferences is one that the reward `reward_model` loads, and scores as it was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_grounding, digits_video
from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.callbacks import read_metrics
from mmrl.trainers.preferences import ranked_pairs, rankings, relabelled
from rewards import Rollout
from rewards.heads.reward_model import reward_model
from tests.support.runs import assert_a_kill_changes_nothing
from tests.support.training import config, material, metrics, preferences

STEPS = {"per_device_train_batch_size": 4, "max_steps": 6, "save_steps": 2, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about texts, pictures and a clip with two answers each, the last two of them held out; a model."""
    out = material(tmp_path_factory.mktemp("world"), "tivp")
    made = [
        replace(sample, meta={**sample.meta, "split": "test" if number >= 8 else "train"})
        for number, sample in enumerate(preferences("tivp" * 2 + "iv", out / "more"))
    ]
    write_dataset(iter(made), out / "preferences")
    return out


def head(world: Path, place: Path, **changes: Any) -> Path:
    blocks = {"reward": STEPS, "grpo": None, "preferences": {"path": str(world / "preferences")}}
    return config(world, place, **{**blocks, **changes})


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    """The output of a training with evaluations."""
    reward = {**STEPS, "max_steps": 12, "eval_strategy": "steps", "eval_steps": 6}
    train(load(TrainConfig, head(world, world / "run.yaml", reward=reward)))
    return world / "run" / "reward"


def scores(model: Path, samples: list[Sample]) -> list[list[float]]:
    """The raw scores of the candidates of each sample, by the reward that a suite uses."""
    rollouts = [
        Rollout(text, prompt=sample.prompt, media=sample.media)
        for sample in samples
        for text in sample.answer["candidates"]
    ]
    raw = [float(verdict.why.removeprefix("raw ")) for verdict in reward_model(rollouts, model=str(model))]
    return [raw[i : i + 2] for i in range(0, len(raw), 2)]


def test_it_learns_what_is_preferred_and_the_reward_loads_it(world: Path, run: Path) -> None:
    """On held-out questions as well, whatever they show."""
    accuracy = [line["accuracy"] for line in metrics(run)]
    assert (accuracy[-1], metrics(run)[-1]["loss"] < metrics(run)[0]["loss"] / 2) == (1.0, True)
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval_accuracy" in line]
    assert [(line["step"], line["eval_accuracy"]) for line in evaluated][-1] == (12, 1.0)
    held_out = list(read_samples(world / "preferences", split="test"))
    assert all(second > first for first, second in scores(run / "final", held_out))
    card = (run / "final" / "README.md").read_text()
    assert "| held out, at step 12 | 1.000 |" in card
    assert f"fn: reward_model, args: {{model: {run / 'final'}}}" in card


def test_the_reward_scores_as_in_training(world: Path, run: Path) -> None:
    """The loss that is logged last follows from the scores of the reward within what one step changes."""
    samples = list(read_samples(world / "preferences", split="test"))
    [line] = [line for line in read_metrics(run / "metrics.jsonl") if line.get("step") == 12 and "eval_loss" in line]
    gaps = torch.tensor([second - first for first, second in scores(run / "final", samples)])
    assert_close(float(-torch.nn.functional.logsigmoid(gaps).mean()), line["eval_loss"], atol=1e-3, rtol=0)


def test_what_is_shown_can_decide(world: Path, tmp_path: Path) -> None:
    """The same question and answers, and another picture or clip: another answer is preferred."""
    media = [next(digits_grounding(n=1, seed=seed, side=56)).media[0] for seed in (0, 1)]
    media += [next(digits_video(n=1, seed=seed, side=56, seconds=2.0)).media[0] for seed in (0, 1)]
    samples = [
        with_id(
            Sample("", "s", "preference", user_prompt("Is it new?", [item.kind]), answer, (item,), {"split": "train"})
        )
        for number, item in enumerate(media)
        for answer in ({"candidates": ["yes", "no"], "preferred": number % 2},)
    ]
    write_dataset(iter(samples), tmp_path / "data")
    reward = {**STEPS, "max_steps": 60, "save_strategy": "no"}
    train(
        load(
            TrainConfig,
            head(world, tmp_path / "run.yaml", reward=reward, data=str(tmp_path / "data"), preferences=None),
        )
    )
    assert [line["accuracy"] for line in metrics(tmp_path / "run" / "reward")][-1] == 1.0
    stored = list(read_samples(tmp_path / "data"))
    found = scores(tmp_path / "run" / "reward" / "final", stored)
    assert [int(second > first) for first, second in found] == [sample.answer["preferred"] for sample in stored]


@pytest.mark.parametrize(
    "more", [{}, pytest.param({"lora": {"r": 4, "dropout": 0.1}}, marks=pytest.mark.slow)], ids=["full", "adapters"]
)
def test_killed_during_a_save_it_ends_where_it_would_have_ended(more: Any, world: Path, tmp_path: Path) -> None:
    assert_a_kill_changes_nothing("reward", lambda place: head(world, place, **more), tmp_path)


def ranked(scores: Any, preferred: int = 0) -> list[Sample]:
    answer = {"candidates": ["a", "b", "c"], "preferred": preferred}
    return ranked_pairs([Sample("x", "s", "preference", user_prompt("?"), answer, (), {"scores": scores})], 0.5)


def test_scores_rank_all_candidates_and_give_margins_and_ties() -> None:
    pairs = [(pair.answer["candidates"], pair.answer["margin"]) for pair in ranked([3.0, 1.0, 1.0])]
    assert pairs == [(["a", "b"], 1.0), (["a", "c"], 1.0), (["b", "c"], 0.0), (["c", "b"], 0.0)]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0, 0.0], "candidate 0 is preferred, and meta.scores has a higher score for another"),
        ([1.0, 0.0], r"meta.scores must be 3 finite numbers, got \[1.0, 0.0\]"),
        ([1.0, 0.0, float("nan")], "meta.scores must be 3 finite numbers"),
        ([True, 0.0, 0.0], "meta.scores must be 3 finite numbers"),
    ],
)
def test_scores_that_do_not_fit_are_refused_by_name(scores: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^sample x: {message}"):
        ranked(scores)


@pytest.mark.parametrize("learned", [ranked_pairs, rankings, relabelled])
def test_a_text_with_two_scores_is_refused_by_name(learned: Callable[..., Any]) -> None:
    answer, scores = {"candidates": ["a", "b", "b "], "preferred": 0}, {"scores": [2.0, 1.0, 0.0]}
    with pytest.raises(InputError, match=r"^sample x: candidates 1 and 2 are equal, so neither can be preferred"):
        learned([Sample("x", "s", "preference", [], answer, (), scores)])
