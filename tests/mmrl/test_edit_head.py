"""A head learns which of two pictures is the better edit, and scores what a policy makes as it was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.testing import assert_close

from data_engine.dataset.pairs import picture_pairs
from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.editing.edit_preferences import edit_preferences
from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.preferences import ranked_pairs
from mmrl.trainers.reward import ScoredPairs
from rewards import Rollout
from rewards.heads.checkpoint_torch import loaded
from rewards.heads.reward_model import reward_model
from tests.support.training import config, material, metrics

STEPS = {"per_device_train_batch_size": 4, "max_steps": 60, "save_strategy": "no", "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs of edits, a question with two answers in text, and a tiny model."""
    torch.set_num_threads(1)
    out = material(tmp_path_factory.mktemp("world"), "i")
    faults: Any = ["overdone", "nothing"]
    edits = list(edit_preferences(n=8, side=56, changes=["red", "invert"], faults=faults))
    answer = {"candidates": ["yes", "no"], "preferred": 1}
    told = Sample("", "test", "preference", user_prompt("Is it blue?"), answer, (), {"split": "train"})
    held_out = list(edit_preferences(n=2, side=56, changes=["red", "invert"], faults=faults, split="test"))
    write_dataset([*edits, with_id(told), *held_out], out / "edits")
    return out


@pytest.fixture(scope="module")
def head(world: Path) -> Path:
    """The head that learned from them."""
    blocks: dict[str, Any] = {"reward": STEPS, "grpo": None, "data": str(world / "edits")}
    return train(load(TrainConfig, config(world, world / "run.yaml", **blocks)))


def test_a_head_learns_which_edit_follows_the_instruction_beside_which_text_is_preferred(head: Path) -> None:
    assert [line["accuracy"] for line in metrics(head.parent)][-1] == 1.0


def test_the_reward_scores_what_an_editor_makes_as_the_head_was_trained(world: Path, head: Path) -> None:
    """The picture made is the last one of the prompt; without it there is nothing to score."""
    sides = [sample for sample in read_samples(world / "edits", split="train") if "pair" in sample.meta]
    pairs = picture_pairs(sides)
    rows = [
        {"id": one.id, "prompt": one.prompt, "media": one.media, "answer": one.answer} for one in ranked_pairs(sides)
    ]
    checkpoint = loaded("score", str(head))
    with torch.inference_mode():
        learned = checkpoint.model(**ScoredPairs(checkpoint)(rows)).logits[:, 0]
    asked = [Rollout("", prompt=one.prompt, media=one.media[:1]) for side in zip(*pairs, strict=True) for one in side]
    made = [one.media[1:] for side in zip(*pairs, strict=True) for one in side]
    drawn = [replace(one, made=picture) for one, picture in zip(asked, made, strict=True)]
    raw = [float(verdict.why.removeprefix("raw ")) for verdict in reward_model(drawn, model=str(head), batch=3)]
    assert_close(torch.tensor(raw), learned, atol=2e-3, rtol=1e-3)
    assert {verdict.kind for verdict in reward_model(asked, model=str(head))} == {"unparsed"}


def test_the_head_is_measured_by_kind_of_fault(
    world: Path, head: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    (tmp_path / "suite.yaml").write_text(
        yaml.safe_dump({"rewards": {"follows": {"fn": "reward_model", "args": {"model": str(head)}}}})
    )
    said = says("eval", "rewards", tmp_path / "suite.yaml", world / "edits", "--json", tmp_path / "all.json")
    assert "overdone" in said
    rows = {row["dimension"]: row for row in json.loads((tmp_path / "all.json").read_text())["rows"]}
    assert {name: row["n"] for name, row in rows.items()} == {"all": 11, "overdone": 5, "nothing": 5}
    held_out = [tmp_path / "suite.yaml", world / "edits", "--split", "test", "--json", tmp_path / "test.json"]
    says("eval", "rewards", *held_out)
    assert json.loads((tmp_path / "test.json").read_text())["items"] == 2
    refused = says("eval", "rewards", tmp_path / "suite.yaml", world / "edits", "--split", "tset", status=2)
    assert "has no split 'tset'; did you mean test?" in refused


def _without_pictures(better: Sample, other: Sample) -> list[Sample]:
    return [replace(better, media=()), replace(other, media=())]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda better, other: [better], "pair 'train-0-0' has the sides .*; it must have two"),
        (lambda better, other: [better, replace(other, media=better.media)], "show the same picture"),
        (
            lambda better, other: [better, replace(other, prompt=user_prompt("blur it"))],
            "prompts and media must be equal",
        ),
        (_without_pictures, "samples 0 and 1 are a pair .*; the last of the media of 0 is no picture"),
    ],
)
def test_what_is_no_pair_of_pictures_is_named(changed: Callable[..., list[Sample]], message: str) -> None:
    made = [replace(sample, id=str(number)) for number, sample in enumerate(edit_preferences(n=1, side=16))]
    better, other = picture_pairs(made)[0]
    assert better.meta["preferred"]
    with pytest.raises(InputError, match=message):
        ranked_pairs(changed(replace(better, id="0"), replace(other, id="1")))
