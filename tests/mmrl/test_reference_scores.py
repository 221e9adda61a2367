"""`mmrl data score CONFIG`: answers of a policy are scored, and training compares with their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose

from data_engine.dataset.shards import prompt_of, read_manifest, read_samples, write_dataset
from eval.records import read_records
from mmrl.advantages.grpo_s import grpo_s
from mmrl.cli import VERBS, run
from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.reference_scores import GOLDS
from mmrl.train.stages import run as train
from rewards.composed.shaping import par
from tests.support.heads import tiny_heads
from tests.support.training import REWARDS, VISION, config, material, rollouts

PROMPT = {"tasks": {"count": {"suffix": "Answer with a number."}}}
GRPO = {"max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about texts, pictures and a clip, the last of them held out; a model, and a text encoder."""
    out = material(tmp_path_factory.mktemp("world"), "tivpt")
    split = [
        replace(sample, meta={**sample.meta, "split": "test" if number == 4 else "train"})
        for number, sample in enumerate(list(read_samples(out / "data")))
    ]
    write_dataset(split, out / "questions")
    tiny_heads(out)
    return out


def settings(world: Path, out: Path, **changes: Any) -> Path:
    values = {
        "model": str(world / "model"),
        "data": {"path": str(world / "questions")},
        "rewards": REWARDS,
        "reward": "letters",
        "out": str(out / "answers"),
        "dataset": str(out / "scored"),
        "vision": VISION,
        "prompt": PROMPT,
        "sampling": {"do_sample": True, "samples": 3, "max_new_tokens": 8},
        "batch_size": 2,
        **changes,
    }
    place = out / "score.yaml"
    place.write_text(yaml.safe_dump(values))
    return place


@pytest.fixture(scope="module")
def scored(world: Path) -> Path:
    with pytest.raises(SystemExit) as done:
        run("mmrl data", VERBS["data"][0], ["score", str(settings(world, world)), "demonstrations=true"])
    assert done.value.code == 0
    return world / "scored"


def test_the_scores_of_the_answers_are_in_the_samples(world: Path, scored: Path) -> None:
    """Those of the split that was drawn; the others are as they were."""
    before = {sample.id: sample for sample in read_samples(world / "questions")}
    answers, golds = read_records(world / "answers"), read_records(world / "answers" / GOLDS)
    for sample in read_samples(scored, split="train"):
        mine = [record.scores["letters"] for record in answers if record.item_id == sample.id]
        [gold] = [record for record in golds if record.item_id == sample.id]
        assert (sample.meta["reference_scores"], len(mine)) == (mine, 3)
        assert sample.meta["demonstration_scores"] == gold.scores
        assert gold.response.startswith("<think>I see</think><answer>")
        assert (sample.prompt, sample.answer) == (before[sample.id].prompt, before[sample.id].answer)
        assert [media.sha256 for media in sample.media] == [media.sha256 for media in before[sample.id].media]
    [held_out] = read_samples(scored, split="test")
    assert held_out == before[held_out.id]
    assert read_manifest(scored)["splits"] == {"train": 4, "test": 1}
    assert prompt_of(scored).protocol() == PROMPT  # asked in training as the policy was


def test_a_stopped_run_goes_on_where_it_stopped(
    world: Path, scored: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    """With the same answers, to the last letter."""
    place = settings(world, tmp_path)
    records = tmp_path / "answers" / "records.jsonl"
    assert says("data", "score", place) == f"{tmp_path / 'scored'}: 4 scored, 1 as they were\n"
    whole = records.read_bytes()
    records.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]) + b'{"torn')
    says("data", "score", place)
    assert sorted(records.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert [sample.meta.get("reference_scores") for sample in read_samples(tmp_path / "scored")] == [
        sample.meta.get("reference_scores") for sample in read_samples(scored)
    ]


def test_fewer_samples_or_answers_than_before_are_those_that_are_asked_for(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    """The records of the others stay where they are."""
    place = settings(world, tmp_path)
    says("data", "score", place, "demonstrations=true")
    less = ["data.limit=1", "sampling.samples=2", "demonstrations=true"]
    assert says("data", "score", place, *less) == f"{tmp_path / 'scored'}: 3 scored, 1 as they were\n"
    for sample in read_samples(tmp_path / "scored", split="train"):
        assert len(sample.meta["reference_scores"]) == 2
        assert sample.meta["demonstration_scores"]


def test_par_compares_with_the_answers(world: Path, scored: Path, tmp_path: Path) -> None:
    """From a build to a step of training."""
    shaped = {"fn": "shape", "args": {"method": "par", "reward": {"fn": REWARDS["letters"]["fn"]}}}
    changes = {"rewards": {"plain": REWARDS["letters"], "shaped": shaped}, "data": str(scored), "grpo": GRPO}
    train(load(TrainConfig, config(world, tmp_path / "run.yaml", **changes)))
    references: Any = {sample.id: sample.meta.get("reference_scores") for sample in read_samples(scored)}
    [rows] = rollouts(tmp_path / "run").values()
    for row in rows:
        assert row["score/shaped"] == pytest.approx(par(row["score/plain"], references[row["id"]]), abs=1e-6)


def test_grpo_s_gets_gaps_and_hardness(world: Path, scored: Path, tmp_path: Path) -> None:
    """The advantages are those of the estimator on the numbers of the rollouts and the samples."""
    near = {"fn": "clause_similarity", "weight": 0.0, "args": {"model": str(world / "encoder")}}
    changes = {"rewards": {**REWARDS, "near": near}, "data": str(scored), "advantages": {"name": "grpo_s"}}
    train(load(TrainConfig, config(world, tmp_path / "run.yaml", grpo=GRPO, **changes)))
    golds: Any = {sample.id: sample.meta.get("demonstration_scores") for sample in read_samples(scored)}
    [rows] = rollouts(tmp_path / "run").values()
    groups = [rows[start : start + 4] for start in range(0, len(rows), 4)]
    names = [*REWARDS, "near"]
    rewards = np.array([[[row[f"score/{name}"] for name in names] for row in group] for group in groups], dtype=float)
    gold = np.array([[golds[group[0]["id"]][name] for name in REWARDS] for group in groups])
    gaps = (rewards[..., :2] - gold[:, None]) @ np.array([1.0, 0.5])
    wanted = grpo_s(rewards, [1.0, 0.5, 0.0], gaps_PG=gaps, hardness_PG=1 - rewards[..., 2])
    assert_allclose([[row["advantage"] for row in group] for group in groups], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("rewards", "data", "message"),
    [
        (REWARDS, "questions", "grpo_s needs scores of the gold answers in meta.demonstration_scores"),
        ({"other": REWARDS["letters"]}, "scored", "has scores by brevity, letters, text, and the rewards are other"),
    ],
)
def test_grpo_s_is_told_what_it_lacks_before_the_first_step(
    rewards: Any, data: str, message: str, world: Path, scored: Path, tmp_path: Path
) -> None:
    changes = {"rewards": rewards, "data": str(world / data), "advantages": {"name": "grpo_s"}, "grpo": GRPO}
    with pytest.raises(InputError, match=message):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", **changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "{world}/questions"}, "is where the samples are; name a new directory"),
        ({"dataset": "{world}/model"}, "is not a dataset and would be replaced; choose another place"),
        ({"reward": "leters"}, "unknown reward 'leters' to decide on difficulty; did you mean letters?"),
        ({"data": {"path": "{world}/questions", "split": "dev"}}, "has no split 'dev'"),
        ({"blind": True}, "blind draws"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    changes: Any, message: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    filled = yaml.safe_load(yaml.safe_dump(changes).replace("{world}", str(world)))
    assert message in says("data", "score", settings(world, tmp_path, **filled), status=2)
