"""Data that hold their pictures and videos in their rows: what runs write can be opened, also where it lies later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_engine.dataset.shards import read_samples, write_dataset
from eval.config import EvalConfig
from eval.records import read_records
from eval.run import run
from mmrl.core.config import load, validate
from mmrl.core.media.pictures import pictures_of
from mmrl.train.config import TrainConfig
from mmrl.train.run_pairs import groups_of
from mmrl.train.stages import run as train
from rewards import Rollout
from rewards.rollout_files import read_gold, read_rollouts
from tests.support.training import VISION, config, material

REWARD = {"light": {"fn": "tests.mmrl.test_embedded_media:light"}}


def light(rollouts: Sequence[Rollout]) -> list[float]:
    """The mean of all pixels of what was shown, and a little for each letter."""
    return [sum(_light(media) for media in rollout.media) + len(rollout.completion) / 1e4 for rollout in rollouts]


def _light(media: Any) -> float:
    [first, *_] = pictures_of(media, 2)
    content = first.convert("L").tobytes()
    return sum(content) / len(content) / 255


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and the same data twice: `data` with files, `inside` with the media in the rows."""
    out = material(tmp_path_factory.mktemp("world"), "tipv")
    write_dataset(read_samples(out / "data"), out / "inside", embed_media=True)
    return out


def evaluated(world: Path, data: str, out: Path) -> dict[str, Any]:
    values = {
        "model": str(world / "model"),
        "data": {"path": str(world / data), "split": "train"},
        "rewards": REWARD,
        "out": str(out),
        "vision": VISION,
        "sampling": {"do_sample": True, "samples": 2, "max_new_tokens": 6},
    }
    return {record.key: record.scores for record in run(validate(EvalConfig, values, where="test"))}


def test_records_are_scored_shown_and_grouped(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    scores = evaluated(world, "inside", tmp_path / "run")
    assert sorted(scores.values(), key=str) == sorted(evaluated(world, "data", tmp_path / "plain").values(), key=str)
    assert all(each["light"] for each in scores.values())
    assert len(list((tmp_path / "run" / "media").iterdir())) == 4
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    says("eval", "score", moved)
    assert {record.key: record.scores for record in read_records(moved)} == scores
    says("view", moved, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "not shown" not in page
    assert page.count("data:image") >= 4
    groups, _ = groups_of(moved, "light")
    assert sorted(len([_light(media) for media in group.media]) for group in groups) == [0, 1, 1, 2]


def test_rollouts_of_a_training(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    grpo = {"max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 2}
    place = config(world, tmp_path / "run.yaml", data=str(world / "inside"), rewards=REWARD, grpo=grpo)
    train(load(TrainConfig, place))
    assert len(list((tmp_path / "run" / "media").iterdir())) == 4
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    again = [rollout for _, rollout in read_rollouts(moved)]
    assert len(again) == 16
    assert all(light([rollout])[0] > 0 for rollout in again if rollout.media)
    says("view", moved, "--out", tmp_path / "page.html")
    assert "not shown" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("data", ["data", "inside"])
def test_gold_answers_are_tried_with_their_media(world: Path, data: str) -> None:
    golds = list(read_gold(world / data))
    assert [len(gold.media) for gold in golds] == [0, 1, 2, 1]
    assert all(value > 0 for gold, value in zip(golds, light(golds), strict=True) if gold.media)
