"""`condition_match`: conditions read back from pictures; and the source `conditions`, whose photographs have theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_engine.sources.editing.conditions import conditions
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from rewards import RewardSpec, Rollout, get
from rewards.gradients import gradient_of

HALVES = np.zeros((4, 4, 3), np.uint8)
HALVES[:, 2:] = 255


def swapped(pixels: torch.Tensor) -> torch.Tensor:
    """An extractor in colours."""
    return pixels.flip(1)


def four(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.repeat(1, 2, 1, 1)[:, :4]


def halved(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[:, :1, ::2, ::2]


def asked(condition: Any, *made: Any) -> Rollout:
    pictures = [as_media(Image.fromarray(np.asarray(pixels, np.uint8))) for pixels in (condition, *made)]
    return Rollout("", media=pictures[:1], made=pictures[1:])


@pytest.mark.parametrize(
    ("extractor", "condition", "made", "score"),
    [
        ("grey", HALVES, HALVES, 1.0),
        ("grey", HALVES, 255 - HALVES, 0.0),
        ("grey", np.full((2, 2), 51), np.full((2, 2, 3), 102), 1 - 0.2**2),
        ("edges", np.zeros((4, 4)), HALVES, 1 - 0.5 / 4),  # one column of four, (1^2 + 0^2) / 2
        ("edges", np.zeros((4, 4)), np.full((4, 4, 3), 200), 1.0),  # a flat picture has none
        ("grey", np.zeros((2, 2)), HALVES, 0.0),  # another size
        (f"{__name__}:swapped", [[[255, 0, 0]] * 2] * 2, [[[0, 0, 255]] * 2] * 2, 1.0),
        (f"{__name__}:swapped", [[[255, 0, 0]] * 2] * 2, [[[255, 0, 0]] * 2] * 2, 1 - 2 / 3),
    ],
)
def test_the_mean_squared_error_of_what_is_read_counts(extractor: str, condition: Any, made: Any, score: float) -> None:
    (verdict,) = get("condition_match", extractor=extractor)([asked(condition, made)])
    assert verdict.score == pytest.approx(score, abs=1e-4)


def test_without_a_condition_there_is_no_verdict_and_without_a_picture_a_zero() -> None:
    rollout = asked(HALVES, HALVES)
    score = get("condition_match")
    assert [verdict.kind for verdict in score([replace(rollout, media=()), replace(rollout, made=())])] == [
        "abstained",
        "unparsed",
    ]


@pytest.mark.parametrize(
    ("extractor", "words"),
    [
        ("edgs", "unknown extractor 'edgs'; did you mean edges"),
        (f"{__name__}:none", "cannot import extractor"),
    ],
)
def test_an_extractor_that_is_not_there_is_named(extractor: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        get("condition_match", extractor=extractor)


@pytest.mark.parametrize(
    ("extractor", "words"),
    [(f"{__name__}:four", "gives 4 channels; a condition has 1, or 3"), (f"{__name__}:halved", "reads 2x2; must be")],
)
def test_an_extractor_that_reads_no_condition_of_the_picture_is_named(extractor: str, words: str) -> None:
    score = gradient_of({"condition": RewardSpec(fn="condition_match", args={"extractor": extractor})})
    with pytest.raises(InputError, match=words):
        score(torch.zeros(1, 3, 4, 4), asked(HALVES))


@pytest.mark.parametrize("extractor", ["edges", "grey", f"{__name__}:swapped"])
def test_on_pixels_it_is_the_same_reward_and_has_a_gradient_everywhere(extractor: str) -> None:
    made = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rollout = asked(HALVES, made)
    pixels = (torch.from_numpy(made).permute(2, 0, 1)[None] / 255).requires_grad_(True)
    score = gradient_of({"condition": RewardSpec(fn="condition_match", args={"extractor": extractor})})
    [known] = get("condition_match", extractor=extractor)([rollout])
    assert score(pixels, rollout).tolist() == pytest.approx([known.score], abs=1e-4)
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)  # where a root has no slope
    for picture in (pixels, flat):
        (gradient,) = torch.autograd.grad(score(picture, rollout), picture)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0 or picture is flat


@pytest.mark.parametrize("extractor", ["edges", "grey", f"{__name__}:swapped"])
def test_photographs_of_the_source_have_their_condition(extractor: str) -> None:
    made = list(conditions(n=4, side=16, extractor=extractor))
    assert made == list(conditions(n=6, side=16, extractor=extractor))[:4]
    assert made != list(conditions(n=4, side=16, extractor=extractor, split="test"))
    score = get("condition_match", extractor=extractor)
    own = [Rollout("", media=sample.media[:1], made=sample.media[1:]) for sample in made]
    others = [replace(rollout, made=own[place - 1].made) for place, rollout in enumerate(own)]
    assert [verdict.score for verdict in score(own)] == pytest.approx([1] * 4, abs=1e-4)
    assert all((verdict.score or 0) < 0.999 for verdict in score(others))
    assert {load_image(media).size for sample in made for media in sample.media} == {(16, 16)}
