"""`mmrl reward attack CONFIG`: answers that a reward scores wrongly become pairs that a head learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data_engine.dataset.shards import read_samples, write_dataset
from eval.records import read_records
from mmrl.core.config import load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from rewards import Rollout
from tests.support.training import VISION, config, material, metrics, preferences


def vowels(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward with a hole: whatever has many vowels is good."""
    return [sum(c in "aeiou" for c in one.completion) / max(len(one.completion), 1) for one in rollouts]


def vowels_or_silence(rollouts: Sequence[Rollout]) -> list[float]:
    return [score if one.completion.strip() else 0.9 for score, one in zip(vowels(rollouts), rollouts, strict=True)]


def sees(rollouts: Sequence[Rollout]) -> list[float]:
    """What is good: an answer that says that it sees."""
    return [float("I see" in one.completion) for one in rollouts]


def sees_as_well(rollouts: Sequence[Rollout]) -> list[float]:
    return sees(rollouts)


def content(rollouts: Sequence[Rollout]) -> list[float]:
    return [1.0] * len(rollouts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions with two answers, of which the one that sees is preferred, and a tiny model."""
    torch.set_num_threads(1)
    out = material(tmp_path_factory.mktemp("world"), "t")
    write_dataset(preferences("tiv", out / "more"), out / "preferences")
    return out


def attack(says: Callable[..., str], world: Path, out: Path, *, status: int = 0, **changes: Any) -> str:
    """What `mmrl reward attack` prints."""
    place = f"{__name__}:"
    values = {
        "model": str(world / "model"),
        "data": {"path": str(world / "preferences"), "split": "train"},
        "head": {"fn": f"{place}vowels"},
        "judge": {"fn": f"{place}sees"},
        "candidates": 8,
        "weight": 0.01,
        "max_new_tokens": 8,
        "vision": VISION,
        "out": str(out / "answers"),
        "dataset": str(out / "pairs"),
        **changes,
    }
    (out / "attack.yaml").write_text(yaml.safe_dump(values))
    return says("reward", "attack", out / "attack.yaml", status=status)


def test_a_hole_is_found_and_becomes_pairs_that_a_head_learns_from(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    printed = attack(says, world, tmp_path)
    assert "3 bad answers above the good one" in printed
    assert "3 blank" in printed  # what scores least is silence
    assert f"{tmp_path / 'pairs'}: 3 pairs" in printed
    known = {sample.id: sample for sample in read_samples(world / "preferences")}
    records = {record.item_id: record for record in read_records(tmp_path / "answers" / "high")}
    for sample in read_samples(tmp_path / "pairs"):
        better, other = sample.answer["candidates"]
        assert (better, sample.answer["preferred"]) == (known[sample.meta["of"]].answer["candidates"][1], 0)
        assert other == records[sample.meta["of"]].response
        scores = vowels([Rollout(other), Rollout(better)])
        assert scores[0] > scores[1]
    reward = {"per_device_train_batch_size": 3, "max_steps": 1, "save_strategy": "no"}
    changes = {"data": str(tmp_path / "pairs"), "reward": reward, "grpo": None}
    train(load(TrainConfig, config(world, tmp_path / "head.yaml", **changes)))
    assert len(metrics(tmp_path / "head" / "reward")) == 1


def test_the_search_follows_the_score_and_the_same_command_finds_the_same(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    """Towards the best scores on one side and the worst on the other."""
    first = attack(says, world, tmp_path)
    answers = {
        side: {record.item_id: record for record in read_records(tmp_path / "answers" / side)}
        for side in ("low", "high")
    }
    for name, high in answers["high"].items():
        assert (high.scores["head"] or 0) > (answers["low"][name].scores["head"] or 0)
    file = tmp_path / "answers" / "high" / "records.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.splitlines(keepends=True)[0])
    assert attack(says, world, tmp_path) == first
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_good_answers_of_a_low_score_are_preferred(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    """Where the judge finds everything good."""
    head = {"fn": f"{__name__}:vowels_or_silence"}
    printed = attack(says, world, tmp_path, head=head, judge={"fn": f"{__name__}:content"})
    assert "good answers scored below the bad one" in printed
    for sample in read_samples(tmp_path / "pairs"):
        assert sample.meta["attack"] == "low"
        assert sample.answer["candidates"][1] == next(
            one.answer["candidates"][0] for one in read_samples(world / "preferences") if one.id == sample.meta["of"]
        )


def test_a_reward_without_a_hole_gives_no_dataset(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    printed = attack(says, world, tmp_path, head={"fn": f"{__name__}:sees_as_well"})
    assert "no failure found" in printed
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 0}, "weight"),
        ({"head": {"fn": "reward_modle"}}, "did you mean reward_model?"),
        ({"head": {"fn": "group_rank", "args": {"reward": {"fn": f"{__name__}:vowels"}}}}, "no group to rank in"),
        ({"dataset": "{world}/preferences"}, "is where the samples are; name a new directory"),
        ({"dataset": "{world}/model"}, "is not a dataset and would be replaced; choose another place"),
        ({"judge": {"fn": f"{__name__}:vowels"}}, "judge is the attacked head itself"),
        ({"data": {"path": "{world}/data", "split": "train"}}, "pairs are read from samples of the task 'preference'"),
    ],
)
def test_wrong_settings_are_refused(
    changes: Any, message: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    filled = yaml.safe_load(yaml.safe_dump(changes).replace("{world}", str(world)))
    assert message in attack(says, world, tmp_path, status=2, **filled)
    printed = attack(says, world, tmp_path, status=2, dataset=str(tmp_path / "answers"))
    assert "is where the run keeps its records" in printed
