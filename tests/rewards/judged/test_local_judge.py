"""A checkpoint as a judge: batches answer as each question does alone, and failures have their causes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmrl.core.config import InputError
from mmrl.model.tiny_twins import tiny_model
from rewards import Media, Rollout, get
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.judge_spec import JudgeSpec

TEXTS = ["Is a red bus in the picture? Answer yes or no.", "No, the bus is blue.", "You judge how good it is."]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= 8  # large enough that what it is asked matters to what it says
    place = tmp_path_factory.mktemp("vlm")
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("pictures")
    for colour in ("red", "blue"):
        Image.new("RGB", (56, 56), colour).save(place / f"{colour}.png")
    return [str(place / "red.png"), str(place / "blue.png")]


def judge(checkpoint: Path, **settings: Any) -> Judge:
    return Judge(
        JudgeSpec.model_validate(
            {"backend": "hf", "model": str(checkpoint), "max_tokens": 8, "deadline": 60.0, **settings}
        )
    )


def asks(pictures: list[str]) -> list[Ask]:
    media = [(), *((Shown(Media("image", path)),) for path in pictures)]
    return [Ask("test/1", "Judge.", f"{text} {i}", seen) for i, text in enumerate(TEXTS) for seen in media]


def test_a_batch_answers_as_each_question_alone(checkpoint: Path, pictures: list[str], tmp_path: Path) -> None:
    batched = judge(checkpoint, batch=9, cache=tmp_path / "cache.sqlite")
    together = [outcome.text or outcome.cause for outcome in batched.ask_all(asks(pictures))]
    alone = judge(checkpoint, batch=1)
    assert together == [outcome.text or outcome.cause for outcome in alone.ask_all(asks(pictures))]
    assert len(set(together)) > 1
    assert batched.metrics.requests == 9
    again = judge(checkpoint, cache=tmp_path / "cache.sqlite")
    assert [outcome.text or outcome.cause for outcome in again.ask_all(asks(pictures))] == together
    assert again.metrics.cached == sum(reply not in ("malformed",) for reply in together)


def test_the_picture_decides_the_odds(checkpoint: Path, pictures: list[str]) -> None:
    first = {"logprobs": True, "max_tokens": 1}
    red, blue, red_again = judge(checkpoint).ask_all(
        [Ask("test/1", "Judge.", "Is it red?", (Shown(Media("image", pictures[i])),), first) for i in (0, 1, 0)]
    )
    assert red.text is not None
    assert red.text == red_again.text != blue.text
    assert len(json.loads(red.text)) > 10


def test_a_random_model_gives_no_verdict_and_says_why(checkpoint: Path, pictures: list[str]) -> None:
    rollouts = [Rollout("A red bus.", media=[Media("image", path)]) for path in [*pictures, "/no/such.png"]]
    for name in ("judge", "self_hallucination"):
        verdicts = get(name, judge=judge(checkpoint))(rollouts)
        assert [(verdict.score, verdict.kind) for verdict in verdicts] == [(None, "failed")] * 3
        assert all(
            cause in verdict.why
            for verdict, cause in zip(verdicts, ("judge: ", "judge: ", "no media file"), strict=True)
        )


def test_what_cannot_be_answered_has_its_cause(checkpoint: Path, pictures: list[str]) -> None:
    late = judge(checkpoint, max_tokens=400, deadline=0.001).ask_all([Ask("test/1", "Judge.", "Is it red?")])[0]
    assert late.cause == "deadline"
    endless = Ask("test/1", "Judge.", "red " * 9_000)
    long, short = judge(checkpoint).ask_all([endless, asks(pictures)[0]])
    assert (long.cause, short.cause) in (("refused", None), ("refused", "malformed"))
    warm = Ask("test/1", "Judge.", "Is it red?", params={"temperature": 1.0})
    assert judge(checkpoint).ask_all([warm])[0].cause == "refused"


def test_settings_of_the_other_backend_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for given, message in [
        ({"backend": "hf", "model": "m", "base_url": "http://x/v1"}, "backend hf takes no base_url"),
        ({"backend": "hf", "model": "m", "temperature": 0.5}, "backend hf is greedy"),
        ({"base_url": "http://x/v1", "model": "m", "batch": 4}, "backend openai takes no batch"),
        ({"model": "m"}, "base_url is missing"),
        ({"backend": "hf", "model": str(tmp_path)}, "no config.json"),
    ]:
        with pytest.raises(InputError, match=message):
            get("judge", judge=given)


def test_a_checkpoint_saved_anew_is_asked_anew(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    ask = Ask("test/1", "Judge.", "Is it red?", params={"logprobs": True, "max_tokens": 1})
    for calls in (1, 0):
        kept = judge(copy, cache=tmp_path / "cache.sqlite")
        kept.ask_all([ask])
        assert kept.metrics.requests == calls
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes())
    anew = judge(copy, cache=tmp_path / "cache.sqlite")
    anew.ask_all([ask])
    assert anew.metrics.requests == 1
