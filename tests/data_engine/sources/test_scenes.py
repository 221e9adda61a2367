"""Digits on photographs, charts and sums: the gold answers are those of the pictures."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_engine.schema import Sample
from data_engine.sources.scenes import BARS, TOP, bar_charts, digits_scene, sums
from rewards import Rollout, get
from tests.support.rows import sound


def made(ask: Any, n: int = 40, **options: Any) -> list[Sample]:
    return sound(digits_scene(n=n, ask=ask, side=96, **options))


def pixels(sample: Sample) -> np.ndarray:
    assert sample.media[0].bytes is not None
    return np.asarray(Image.open(io.BytesIO(sample.media[0].bytes)), dtype=int)


def test_one_digit_is_found_where_it_is_and_not_where_it_is_absent() -> None:
    samples = made("find")
    absent = [sample for sample in samples if not sample.answer["boxes"]]
    assert 5 <= len(absent) <= 25
    for sample in samples:
        (asked,) = re.findall(r"\d", sample.prompt[0]["content"][1]["text"])
        assert sample.answer["labels"] == [asked] * len(sample.answer["boxes"])
        for (x1, y1, x2, y2), (x, y) in zip(sample.answer["boxes"], sample.answer["points"], strict=True):
            assert pixels(sample)[int(y1) : int(y2), int(x1) : int(x2)].max() > 200, "light paper"
            assert x1 < x < x2
            assert y1 < y < y2


def test_reading_adding_and_describing_agree_with_the_detection() -> None:
    for ask in ("ocr", "math", "caption"):
        for sample in made(ask, n=10):
            digits = [digit for digit in sample.meta["rationale"] if digit.isdigit()]
            if ask == "ocr":
                assert sample.answer["text"] == ["".join(digits)]
            elif ask == "math":
                assert sample.answer["math"] == str(sum(map(int, digits)))
            else:
                assert sample.answer["chain"]["digits"] == digits
                caption = Rollout(sample.answer["references"][0], sample.answer, "caption")
                assert [get(name)([caption])[0].score for name in ("reward_chain", "bleu")] == [1.0, 1.0]
                assert len(sample.answer["units"]) == len(digits)


def test_places_are_quarters_of_the_picture() -> None:
    said = {sample.answer["references"][0].partition(" is at ")[2] for sample in made("open")}
    assert said == {f"the {y} {x}." for y in ("top", "bottom") for x in ("left", "right")}


def test_a_bar_is_as_high_as_its_gold_says() -> None:
    for sample in sound(bar_charts(n=20, side=108)):
        (name,) = re.findall("|".join(BARS), sample.prompt[0]["content"][1]["text"])
        rows = (pixels(sample) == BARS[name]).all(axis=-1).any(axis=1).nonzero()[0]
        assert round((rows.max() - rows.min()) / 100 * TOP) == int(sample.answer["text"][0])


def test_sums_are_right_and_splits_differ() -> None:
    for sample in sound(sums(n=30)):
        question = sample.prompt[0]["content"][0]["text"].removeprefix("What is ").removesuffix("?")
        assert eval(question.replace("x", "*")) == int(sample.answer["math"])
    assert made("ocr", n=3) == made("ocr", n=3)
    assert made("ocr", n=3) != made("ocr", n=3, split="test")
    with pytest.raises(StopIteration):
        next(sums(n=0))
