"""`mmrl train CONFIG --smoke` tries every task and kind of media, and says what it tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt
from mmrl.core.config import load
from mmrl.core.media.item import Media
from mmrl.train.chosen_samples import kind_of, spread
from mmrl.train.config import TrainConfig
from mmrl.train.smoke import miniature
from tests.support.training import config, questions


def of(task: str, *kinds: str) -> Sample:
    return Sample(task, "s", task, user_prompt("?"), {}, tuple(Media(kind) for kind in kinds))  # pyright: ignore[reportArgumentType]


def test_kinds_take_turns_and_the_rare_ones_come_first() -> None:
    samples = [of("grounding", "image")] * 40 + [of("temporal", "video"), of("text"), of("count", "image", "image")]
    chosen, left_out = spread(samples)
    assert len(chosen) == 8
    assert [kind_of(sample) for sample in chosen[:4]] == [
        "count (several images)",
        "temporal (video)",
        "text (text only)",
        "grounding (image)",
    ]
    assert left_out == []


def test_what_has_no_room_is_named() -> None:
    chosen, left_out = spread([of(f"task{number:02d}", "image") for number in range(18)])
    assert (len(chosen), left_out) == (16, ["task16 (image)", "task17 (image)"])
    assert len(spread([of("text")] * 3)[0]) == 3


def failing(rollouts: list[object]) -> list[float]:
    raise RuntimeError("no such table")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose only video comes last, and a tiny model."""
    from mmrl.model.tiny_twins import TinySize, tiny_model
    from tests.conftest import TEXTS

    out = tmp_path_factory.mktemp("world")
    write_dataset(questions("i" * 20 + "tv", out / "media"), out / "data")
    for part in tiny_model("qwen2_5_vl", TEXTS, size=TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)):
        part.save_pretrained(out / "model")
    assert len(list(read_samples(out / "data"))) == 22
    return out


def test_a_smoke_test_reaches_the_last_sample_and_counts_by_reward(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    place = config(world, tmp_path / "run.yaml")
    printed = says("train", place, "--smoke")
    assert "tried: count (image), temporal (video), text (text only)" in printed
    assert "reward letters: 16 of 16 rollouts scored" in printed


def test_a_reward_that_always_fails_does_not_pass(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    rewards = {"mine": {"fn": "tests.mmrl.test_smoke:failing"}, "letters": {"fn": "tests.support.training:letters"}}
    place = config(world, tmp_path / "run.yaml", rewards=rewards)
    printed = says("train", place, "--smoke", status=1)
    assert "mmrl train: reward mine failed on all 16 rollouts of the smoke test" in printed
    assert "passed" not in printed


def test_a_smoke_test_leaves_the_labels_of_a_run_and_keeps_its_trees_whole(world: Path, tmp_path: Path) -> None:
    labels = {"teacher": {"fn": "letters"}, "model": "x", "labels": str(tmp_path / "labels")}
    shaped = {"fn": "all_of", "args": {"rewards": [{"fn": "letters"}, {"fn": "student", "args": labels}]}}
    given = {"rewards": {"a": {"fn": "student", "args": labels}, "b": shaped}, "grpo": {"num_generations": 12}}
    tree = {"tree": {"branches": 3, "depth": 1}}
    small = miniature(
        load(TrainConfig, config(world, tmp_path / "run.yaml", **given, rollout=tree)), tmp_path / "small"
    )
    places = [small.rewards["a"].args["labels"], small.rewards["b"].args["rewards"][1]["args"]["labels"]]
    assert len(set(places)) == 2
    assert all(place.startswith(str(tmp_path / "small")) for place in places)
    assert small.rewards["a"].args["teacher"] == labels["teacher"]
    assert (small.grpo or {})["num_generations"] == 3


@pytest.mark.parametrize("option", ["--plan", None])
def test_videos_are_refused_before_step_one_by_a_model_that_sees_pictures_only(
    option: str | None, tmp_path: Path, says: Callable[..., str]
) -> None:
    from mmrl.model.tiny_twins import tiny_model
    from tests.conftest import TEXTS

    write_dataset(questions("iiv", tmp_path / "media"), tmp_path / "data")
    for part in tiny_model("idefics3", TEXTS):
        part.save_pretrained(tmp_path / "model")
    place = config(tmp_path, tmp_path / "run.yaml", rewards={"letters": {"fn": "tests.support.training:letters"}})
    error = says("train", place, *([option] if option else []), status=2)
    assert "1 of the 3 samples of the training show videos, and" in error.splitlines()[-1]
    assert not (tmp_path / "run").exists()
