"""`content_match`: what a picture shows, counted; and the source `descriptions`, whose pictures show what they say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_engine.operator import Quarantined
from data_engine.ops.validate import validate
from data_engine.schema import Sample
from data_engine.sources.editing.descriptions import contents, descriptions
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from rewards import Rollout, Verdict, get
from rewards.rules.content import digit_mask, shape_of
from rewards.tasks.content import COLOURS, GROUND, SHAPES

SIDE = 32
TWO_RED = {"what": "square", "colour": "red", "count": 2, "place": "left half"}


def picture(*squares: tuple[str, int, int], size: int = 5) -> Image.Image:
    made = Image.new("RGB", (SIDE, SIDE), GROUND)
    for colour, x, y in squares:
        made.paste(COLOURS[colour], (x, y, x + size, y + size))
    return made


def verdict(made: Image.Image, *content: dict[str, Any]) -> Verdict:
    return get("content_match")([Rollout("", {"content": list(content)}, made=[as_media(made)])])[0]


@pytest.mark.parametrize(
    ("squares", "score", "missing"),
    [
        ([("red", 1, 1), ("red", 1, 20)], 1.0, "all of it"),
        ([("red", 1, 1)], 3 / 4, "2 x red square"),
        ([("red", 1, 1), ("red", 20, 20)], 3 / 4, "red square in the left half"),
        ([("red", 1, 1), ("red", 1, 20), ("blue", 20, 20)], 3 / 4, "nothing else"),
        ([("blue", 1, 1), ("blue", 1, 20)], 0.0, "a red square"),
        ([], 0.0, "nothing else"),
    ],
)
def test_each_thing_that_is_said_counts_alike(squares: list[Any], score: float, missing: str) -> None:
    found = verdict(picture(*squares), TWO_RED)
    assert found.score == pytest.approx(score)
    assert missing in found.why


def test_things_that_touch_are_one_and_dirt_is_none() -> None:
    assert verdict(picture(("red", 1, 1), ("red", 1, 6)), TWO_RED).score == pytest.approx(3 / 4)
    dirty = picture(("red", 1, 1), ("red", 1, 20))
    dirty.paste(COLOURS["blue"], (20, 20, 21, 22))
    assert verdict(dirty, TWO_RED).score == 1


def test_every_picture_of_the_source_shows_what_its_text_says_and_no_other_text_of_it() -> None:
    for split in ("train", "test"):
        samples = list(descriptions(n=60, side=SIDE, split=split))
        for sample, other in pairwise(samples):
            made = load_image(sample.media[0])
            assert verdict(made, *sample.answer["content"]).score == 1, sample
            if other.answer != sample.answer:
                assert (verdict(made, *other.answer["content"]).score or 0) < 1
            assert isinstance(validate(sample), Sample)


def test_colours_that_are_a_little_off_still_count() -> None:
    [sample] = descriptions(n=1, side=64, things=["3"])
    made = np.asarray(load_image(sample.media[0]), dtype=np.float64)
    noisy = np.clip(made + np.random.default_rng(0).normal(0, 12, made.shape), 0, 255)
    assert verdict(Image.fromarray(noisy.astype(np.uint8)), *sample.answer["content"]).score == 1


def test_digits_are_told_apart_in_any_size() -> None:
    for height in (7, 9, 14, 21):
        assert [shape_of(digit_mask(digit, height)) for digit in SHAPES] == list(SHAPES)


def test_descriptions_of_the_splits_differ() -> None:
    train, test = (contents(["square", "7"], 3, split) for split in ("train", "test"))
    assert len(test) == len(train) / 3
    assert not [entry for entry in test if entry in train]
    assert {entry["place"] for entry in test} == {entry["place"] for entry in train}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"things": ["circle"]}, "things: unknown 'circle'"), ({"side": 16}, "side is 16; give 32 or more")],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        descriptions(n=1, **options)


def test_a_content_that_cannot_be_counted_is_quarantined() -> None:
    [sample] = descriptions(n=1)
    for entry in ({**TWO_RED, "colour": "pink"}, {**TWO_RED, "count": 0}, {**TWO_RED, "place": "middle"}):
        wrong = Sample("", "x", "text_to_image", sample.prompt, {"content": [entry]}, sample.media)
        outcome = validate(wrong)
        assert isinstance(outcome, Quarantined)
        assert outcome.reason == "bad_answer"
