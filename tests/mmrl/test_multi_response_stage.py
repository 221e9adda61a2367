"""A head for several answers learns which is the best, and the reward `multi_response` reads it as it was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt
from data_engine.sources.synthesis import digits_video
from mmrl.core.config import InputError, load
from mmrl.core.media.item import Media
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.callbacks import read_metrics
from mmrl.trainers.preferences import rankings
from rewards import Rollout
from rewards.heads.multi_response import multi_response
from tests.conftest import stored
from tests.support.runs import assert_a_kill_changes_nothing
from tests.support.training import config, material, metrics, preferences

STEPS = {"per_device_train_batch_size": 4, "max_steps": 6, "save_steps": 2, "learning_rate": 3e-3}
ANSWERS = ["I see two", "the 7 is here", "no"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same question with the same three answers about red and blue pictures and two clips, where what is shown
    decides which is the best; texts with two; a model."""
    out = material(tmp_path_factory.mktemp("world"), "t")
    made = [stored(next(digits_video(n=1, seed=seed, side=56, seconds=2.0)).media[0], out) for seed in (0, 1)]
    for number, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
        place = out / f"{number}.png"
        Image.new("RGB", (56, 56), colour).save(place)
        made.append(Media("image", path=str(place), width=56, height=56))
    shown = [
        Sample("", "s", "preference", user_prompt("Which?", [item.kind]), answer, (item,), {"split": split})
        for number, item in enumerate(made)
        for answer in ({"candidates": ANSWERS, "preferred": number % 2},)
        for split in ("train", "test")
    ]
    texts = [replace(sample, source="t") for sample in preferences("tt", out / "more")]
    numbered = [replace(sample, id=str(number)) for number, sample in enumerate([*shown, *texts])]
    write_dataset(numbered, out / "preferences")  # a hash would know the place, and the order of candidates the hash
    return out


def head(world: Path, place: Path, **changes: Any) -> Path:
    blocks = {"reward": STEPS, "grpo": None, "preferences": {"path": str(world / "preferences")}}
    return config(world, place, **{**blocks, "head": {"kind": "multi_response"}, **changes})


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    reward = {**STEPS, "max_steps": 60, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 30}
    train(load(TrainConfig, head(world, world / "run.yaml", reward=reward)))
    return world / "run" / "reward"


def scores(model: Path, sample: Sample, **options: Any) -> list[float]:
    rollouts = [
        Rollout(text, prompt=sample.prompt, media=sample.media, group=1) for text in sample.answer["candidates"]
    ]
    verdicts = multi_response(rollouts, model=str(model), **options)
    assert {verdict.kind for verdict in verdicts} == {"scored"}, verdicts
    return [float(verdict.why.removeprefix("raw ")) for verdict in verdicts]


def test_what_is_shown_decides_in_whatever_order_the_answers_stand(world: Path, run: Path) -> None:
    held_out = list(read_samples(world / "preferences", split="test"))
    for orders in (1, 3):
        found = [scores(run / "final", sample, orders=orders) for sample in held_out]
        assert [one.index(max(one)) for one in found] == [sample.answer["preferred"] for sample in held_out]
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval_accuracy" in line]
    assert [(line["step"], line["eval_accuracy"]) for line in evaluated][-1] == (60, 1.0)
    assert fmean(line["loss"] for line in metrics(run)[-10:]) < metrics(run)[0]["loss"] / 3
    card = (run / "final" / "README.md").read_text()
    assert "| held out, at step 60 | 1.000 |" in card
    assert f"fn: multi_response, args: {{model: {run / 'final'}}}" in card


def test_other_pixels_change_every_score(world: Path, run: Path) -> None:
    """Those of a picture that is grey, and of a clip whose frames are of another."""
    samples = list(read_samples(world / "preferences", split="test"))
    Image.new("RGB", (56, 56), (128, 128, 128)).save(world / "grey.png")
    grey = Media("image", path=str(world / "grey.png"), width=56, height=56)
    clips = {sample.media[0].path: sample.media for sample in samples if sample.media[0].kind == "video"}
    for sample in samples:
        video = sample.media[0].kind == "video"
        other = next(media for path, media in clips.items() if path != sample.media[0].path) if video else (grey,)
        seen, masked = (scores(run / "final", one) for one in (sample, replace(sample, media=other)))
        assert all(abs(one - two) > 1e-3 for one, two in zip(seen, masked, strict=True))


def test_an_answer_scores_as_in_a_pass_that_ends_with_it(world: Path, run: Path) -> None:
    """Later answers are not seen: the first scores as it does alone."""
    from rewards.heads.checkpoint_torch import chat, pictures_by_media
    from rewards.heads.multi_response_torch import scored_together
    from rewards.heads.token_scores_torch import asked, token_scores

    trained_head = token_scores(str(run / "final"), ("multi_response",), "cpu", "float32")
    for sample in read_samples(world / "preferences", split="test"):
        rollout = Rollout("", prompt=sample.prompt, media=sample.media)
        prompt = asked(trained_head, chat(rollout, trained_head.tokenizer, pictures_by_media(rollout)))
        for turn in range(3):
            texts = [*ANSWERS[turn:], *ANSWERS[:turn]]
            ending = [scored_together(trained_head, prompt, texts[:count])[-1] for count in (1, 2, 3)]
            assert_close(scored_together(trained_head, prompt, texts), torch.stack(ending), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "more", [{}, pytest.param({"lora": {"r": 4, "dropout": 0.1}}, marks=pytest.mark.slow)], ids=["full", "adapters"]
)
def test_killed_during_a_save_it_ends_where_it_would_have_ended(more: Any, world: Path, tmp_path: Path) -> None:
    assert_a_kill_changes_nothing("reward", lambda place: head(world, place, **more), tmp_path)


def test_adapters_and_frozen_parts_leave_a_head_that_the_reward_loads(world: Path, tmp_path: Path) -> None:
    changes = {"lora": {"r": 4}, "freeze": ["vision"], "reward": {**STEPS, "max_steps": 1}}
    train(load(TrainConfig, head(world, tmp_path / "run.yaml", **changes)))
    sample = next(iter(read_samples(world / "preferences", split="test")))
    assert len(scores(tmp_path / "run" / "reward" / "final", sample)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"kind": "multi_response", "margin": 0.5}}, "margin 0.5 is between two answers"),
        (
            {"reward": {**STEPS, "center_rewards_coefficient": 0.1}},
            "center_rewards_coefficient=0.1 is for pairs",
        ),
        ({"head": {"kind": "listwise"}}, "head.kind"),
    ],
)
def test_settings_of_pairs_are_refused(changes: Any, message: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(load(TrainConfig, head(world, tmp_path / "run.yaml", **changes)))


def test_a_head_of_another_kind_is_refused_by_name(world: Path, run: Path) -> None:
    from rewards.heads.reward_model import reward_model

    with pytest.raises(InputError, match="it has no weights for"):
        reward_model([Rollout("no", prompt="Is it?")], model=str(run / "final"))


def test_a_ranking_keeps_all_candidates_and_its_scores_must_agree() -> None:
    answer = {"candidates": ["a", "b", "c"], "preferred": 1}
    sample = Sample("x", "s", "preference", user_prompt("?"), answer, (), {"task": "count", "scores": [1.0, 2.0, 1.5]})
    [kept] = rankings([sample])
    assert (kept.task, kept.answer) == ("count", answer)
    with pytest.raises(InputError, match="candidate 1 is preferred, and meta"):
        rankings([replace(sample, meta={"scores": [3.0, 2.0, 1.5]})])
