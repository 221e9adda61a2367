"""Operators that measure a sample and drop it beyond a threshold."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from data_engine.media import load_grey
from data_engine.ops.base import drops
from data_engine.schema import Media, Sample, prompt_text
from data_engine.texts import words
from mmrl.vision import VisionBudget, VisionGeometry

SIDE = 256  # pixels a side, about, at which sharpness and entropy are measured: so they do not depend on the size


@drops
def max_aspect(sample: Sample, *, ratio: Annotated[float, Field(ge=1)] = 8.0) -> str | None:
    """Drop samples with an image or video more than `ratio` times as long as it is wide, or as wide as long."""
    sizes = [(media.width or 1, media.height or 1) for media in sample.media]
    return "too_long_and_thin" if any(max(size) > ratio * min(size) for size in sizes) else None


@drops
def text_length(sample: Sample, *, min_words: NonNegativeInt = 1, max_words: PositiveInt = 1000) -> str | None:
    """Drop samples whose prompt has fewer or more words; a Chinese, Japanese or Korean character is a word."""
    count = len(words(prompt_text(sample.prompt)))
    return "text_too_short" if count < min_words else "text_too_long" if count > max_words else None


@drops
def option_count(sample: Sample, *, least: PositiveInt = 2, most: PositiveInt = 26) -> str | None:
    """Drop choices with fewer or more options."""
    count = len(sample.answer["options"]) if sample.task == "choice" else least
    return "too_few_options" if count < least else "too_many_options" if count > most else None


@drops
def min_entropy(sample: Sample, *, bits: NonNegativeFloat = 1.0) -> str | None:
    """Drop samples with an image whose grey levels hold less than `bits`: one tone has 0, a photograph 6 to 8."""
    return "too_uniform" if any(entropy(media) < bits for media in _images(sample)) else None


@drops
def min_sharpness(sample: Sample, *, variance: NonNegativeFloat = 20.0) -> str | None:
    """Drop samples with an image whose Laplacian varies less: sharp photographs have hundreds."""
    return "blurred" if any(sharpness(media) < variance for media in _images(sample)) else None


@drops
def max_vision_tokens(
    sample: Sample, *, tokens: PositiveInt, max_pixels: PositiveInt = 1280 * 28 * 28, factor: PositiveInt = 28
) -> str | None:
    """Drop samples whose images make more vision tokens, under a budget of `max_pixels` an image.

    `factor` is the side in pixels of what becomes one token: 28 in Qwen2-VL and Qwen2.5-VL, 32 in Qwen3-VL.
    """
    budget = VisionBudget(min_pixels=min(max_pixels, 4 * factor * factor), max_pixels=max_pixels)
    geometry = VisionGeometry(patch=factor // 2, merge=2, temporal_patch=2)
    total = 0
    for media in _images(sample):
        width, height = budget.image_size(media.width or 1, media.height or 1, geometry)
        total += (width // geometry.factor) * (height // geometry.factor)
    return "too_many_vision_tokens" if total > tokens else None


def entropy(media: Media) -> float:
    """The entropy of an image's grey levels in bits."""
    levels = np.bincount(np.asarray(load_grey(media, side=SIDE)).ravel(), minlength=256)
    shares = levels[levels > 0] / levels.sum()
    return float(-(shares * np.log2(shares)).sum())


def sharpness(media: Media) -> float:
    """The variance of an image's Laplacian, at a size between `SIDE` and twice that."""
    image = load_grey(media, side=SIDE)
    image = image.reduce(max(1, min(image.size) // SIDE))
    grey = np.pad(np.asarray(image, np.float32), 1, mode="edge")
    middle = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).var())


def _images(sample: Sample) -> list[Media]:
    return [media for media in sample.media if media.kind == "image"]
