"""Numbers about a sample, each measured once and noted in `meta["measures"]`.

The thresholds of filters, and later of `mmrl data stats`, are conditions on the noted values.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard, get_args

import numpy as np

from data_engine.schema import Sample
from data_engine.words import words
from mmrl.core.config import InputError
from mmrl.core.media.image import load_grey
from mmrl.core.media.item import Media
from mmrl.core.messages import prompt_text

Name = Literal["side", "aspect", "words", "options", "entropy", "sharpness", "vision_tokens", "agreement", "rate"]

NOTED = "measures"  # the key of meta
DIGITS = 4  # after the point: noted values are read by people
SIDE = 256  # pixels a side, about, at which sharpness and entropy are measured, so that size does not matter
CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(-?\d+(?:\.\d+)?)\s*")


def shortest_side(sample: Sample) -> float | None:
    """The shortest side of all media in pixels."""
    return min((min(media.width or 0, media.height or 0) for media in sample.media), default=None)


def longest_aspect(sample: Sample) -> float | None:
    """The largest ratio of the longer to the shorter side of any media."""
    sizes = [(media.width or 1, media.height or 1) for media in sample.media]
    return max((max(size) / min(size) for size in sizes), default=None)


def word_count(sample: Sample) -> float:
    """The words of the prompt; a Chinese, Japanese or Korean character is a word."""
    return len(words(prompt_text(sample.prompt)))


def option_count(sample: Sample) -> float | None:
    """The number of options of a choice."""
    return len(sample.answer["options"]) if sample.task == "choice" else None


def least_entropy(sample: Sample) -> float | None:
    """The lowest entropy of the grey levels of any image, in bits: one tone has 0, a photograph 6 to 8."""
    return min((_entropy(_Picture(media)) for media in images(sample)), default=None)


def least_sharpness(sample: Sample) -> float | None:
    """The lowest variance of the Laplacian of any image: sharp photographs have hundreds."""
    return min((_sharpness(_Picture(media)) for media in images(sample)), default=None)


MEASURES: dict[Name, Callable[[Sample], float | None]] = {  # those that need no options
    "side": shortest_side,
    "aspect": longest_aspect,
    "words": word_count,
    "options": option_count,
    "entropy": least_entropy,
    "sharpness": least_sharpness,
}


def take_measure(sample: Sample, name: Name, how: Callable[[Sample], float | None] | None = None) -> Sample:
    """The sample with the measure noted, if the measure applies to it.

    A value that was noted before is kept, but with `how` it is measured again: `how` depends on options.
    """
    if how is None and name in noted(sample):
        return sample
    return with_measure(sample, name, (how or MEASURES[name])(sample))


def with_measure(sample: Sample, name: Name, value: float | None) -> Sample:
    """The sample with the value noted, if there is one."""
    if value is None:
        return sample
    return replace(sample, meta={**sample.meta, NOTED: {**noted(sample), name: round(float(value), DIGITS)}})


def noted(sample: Sample) -> Mapping[str, float]:
    """The measures noted so far; a source may have used that key of meta for something else."""
    values = sample.meta.get(NOTED)
    return {name: value for name, value in values.items() if is_number(value)} if isinstance(values, Mapping) else {}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of meta is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Condition:
    """A threshold on a measure, such as `entropy>=3`."""

    name: str
    sign: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.bound:g}"

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Boolean mask of the values it keeps. NaN (not measured) passes, as in the filters."""
        return np.isnan(values) | (values <= self.bound if self.sign == "<=" else values >= self.bound)


def condition(text: str) -> Condition:
    """The condition that `text` states.

    >>> condition("entropy >= 3").holds(np.array([2.5, 3.0, np.nan])).tolist()
    [False, True, True]
    """
    match = CONDITION.fullmatch(text)
    if match is None or match[1] not in get_args(Name):
        known = ", ".join(get_args(Name))
        raise InputError(f"{text!r} is not a condition on a measure; write one like entropy>=3, of {known}")
    sign: Any = match[2]
    return Condition(match[1], sign, float(match[3]))


def images(sample: Sample) -> list[Media]:
    """The images of a sample."""
    return [media for media in sample.media if media.kind == "image"]


class _Picture:
    """An image identified by its hash, so that a picture of many questions is measured once per process."""

    def __init__(self, media: Media) -> None:
        self.media = media
        self.name = media.sha256 or media.path or media.bytes

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Picture) and self.name == other.name


@functools.lru_cache(maxsize=256)
def _entropy(picture: _Picture) -> float:
    levels = np.bincount(np.asarray(load_grey(picture.media, side=SIDE)).ravel(), minlength=256)
    shares = levels[levels > 0] / levels.sum()
    return float(-(shares * np.log2(shares)).sum())


@functools.lru_cache(maxsize=256)
def _sharpness(picture: _Picture) -> float:
    """The image is first reduced so that its shorter side is between `SIDE` and twice that."""
    image = load_grey(picture.media, side=SIDE)
    image = image.reduce(max(1, min(image.size) // SIDE))
    grey = np.pad(np.asarray(image, np.float32), 1, mode="edge")
    middle = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).var())
