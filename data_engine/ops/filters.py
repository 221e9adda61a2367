"""Filters by a measure. They note the measure in the sample (see `data_engine.measure.measures`), and drop beyond a
bound."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from data_engine.measure.languages import LANGUAGES, language
from data_engine.measure.measures import MEASURES, Name, images, noted, take_measure
from data_engine.operator import Dropped, drops, each
from data_engine.schema import Sample
from mmrl.core.config import InputError, nearest
from mmrl.core.media.image import load_image
from mmrl.core.messages import prompt_text
from mmrl.core.vision import VisionBudget, VisionGeometry

PLAIN: tuple[Name, ...] = tuple(MEASURES)
Reason = Callable[..., str | None]  # of (value, **options)


def _plain(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if needs := sorted(set(names) - set(PLAIN)):
        raise ValueError(f"measure cannot take {', '.join(needs)}, which need options; use their own operators")
    return names


@each
def measure(
    sample: Sample, *, names: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_plain)] = PLAIN
) -> Sample:
    """Note the measures in `names` and drop nothing, so that `mmrl data stats` can help to choose bounds."""
    for name in names:
        sample = take_measure(sample, name)
    return sample


def drops_by(name: Name) -> Callable[[Reason], Callable[..., Sample | Dropped]]:
    """Make a filter of a function `(value, **options)` that returns the reason to drop a sample, or None.

    The measure is noted. A sample without it (a question without a picture, for sharpness) is kept.
    """

    def marked(reason_of: Reason) -> Callable[..., Sample | Dropped]:
        @each
        @functools.wraps(reason_of)
        def filtered(sample: Sample, **options: Any) -> Sample | Dropped:
            sample = take_measure(sample, name)
            value = noted(sample).get(name)
            reason = None if value is None else reason_of(value, **options)
            return Dropped(sample, reason) if reason else sample

        return filtered

    return marked


@drops_by("side")
def min_side(side: float, *, pixels: PositiveInt = 28) -> str | None:
    """Drop samples with an image or video of which a side is shorter than `pixels`."""
    return "too_small" if side < pixels else None


@drops_by("aspect")
def max_aspect(aspect: float, *, ratio: Annotated[float, Field(ge=1)] = 8.0) -> str | None:
    """Drop samples with an image or video more than `ratio` times as long as it is wide, or as wide as long."""
    return "too_long_and_thin" if aspect > ratio else None


@drops_by("words")
def text_length(words: float, *, min_words: NonNegativeInt = 1, max_words: PositiveInt = 1000) -> str | None:
    """Drop samples whose prompt has fewer than `min_words` or more than `max_words` words.

    Each Chinese, Japanese or Korean character counts as a word.
    """
    if words < min_words:
        return "text_too_short"
    return "text_too_long" if words > max_words else None


@drops_by("options")
def option_count(options: float, *, least: PositiveInt = 2, most: PositiveInt = 26) -> str | None:
    """Drop choices with fewer than `least` or more than `most` options."""
    if options < least:
        return "too_few_options"
    return "too_many_options" if options > most else None


@drops_by("entropy")
def min_entropy(entropy: float, *, bits: NonNegativeFloat = 1.0) -> str | None:
    """Drop samples with an image whose grey levels hold less than `bits` of entropy; photographs have 6 to 8 bits."""
    return "too_uniform" if entropy < bits else None


@drops_by("sharpness")
def min_sharpness(sharpness: float, *, variance: NonNegativeFloat = 20.0) -> str | None:
    """Drop samples with an image whose Laplacian has a variance below `variance`; sharp photographs have hundreds."""
    return "blurred" if sharpness < variance else None


@each
def max_vision_tokens(
    sample: Sample, *, tokens: PositiveInt, budget: VisionBudget | None = None, factor: PositiveInt = 28
) -> Sample | Dropped:
    """Drop samples whose images and videos become more than `tokens` vision tokens.

    `budget` is the vision budget of the training. `factor` is the side in pixels of the square that becomes one token:
    28 in Qwen2-VL and Qwen2.5-VL, 32 in Qwen3-VL. Samples that such a model refuses (a video of one frame, a thin
    strip) are dropped as `no_vision_size`.
    """
    allowed = budget or VisionBudget()
    geometry = VisionGeometry(patch=factor // 2, merge=2, temporal_patch=2, whole_video=factor == 32)
    try:
        measured = take_measure(sample, "vision_tokens", lambda item: vision_tokens(item, allowed, geometry))
    except InputError:
        return Dropped(sample, "no_vision_size")
    return Dropped(measured, "too_many_vision_tokens") if noted(measured)["vision_tokens"] > tokens else measured


def _known_language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"no language {code}; {nearest(code, LANGUAGES)}")
    return code


@drops
def in_language(
    sample: Sample,
    *,
    languages: Annotated[list[Annotated[str, AfterValidator(_known_language)]], Field(min_length=1)],
    unknown: bool = True,
) -> str | None:
    """Drop samples whose prompt is not in one of the `languages`. With `unknown`, texts too short to tell are kept."""
    code = language_of(sample)
    kept = unknown if code is None else code in languages
    return None if kept else f"language_{code or 'unknown'}"


@each
def caption_agreement(
    sample: Sample,
    *,
    model: str,
    least: Annotated[float, Field(ge=-1, le=1)] = 0.2,
    device: str = "auto",
    root: Path = Path(),
) -> Sample | Dropped:
    """Drop captions that do not fit their image: their cosine in the space of a CLIP-like model is below `least`.

    Of several captions the best counts. `model` is a directory below `root` or a hub id of CLIP or SigLIP, and runs on
    `device`. Samples of other tasks and samples without an image are kept.
    """
    if sample.task != "caption" or not images(sample):
        return sample
    place = str(root / model) if (root / model).is_dir() else model
    measured = take_measure(sample, "agreement", lambda item: agreement(item, place, device))
    return Dropped(measured, "caption_unlike_image") if noted(measured)["agreement"] < least else measured


def vision_tokens(sample: Sample, budget: VisionBudget, geometry: VisionGeometry) -> int:
    """The number of vision tokens that the media of a sample become."""
    total = 0
    for media in sample.media:
        size, frames = (media.width or 1, media.height or 1), 1
        if media.kind == "image":
            seen = budget.image_size(*size, geometry)
        else:
            indices = budget.frame_indices(media.num_frames or 1, media.fps or 1.0, media.start, media.end, geometry)
            frames = len(indices)
            seen = budget.video_size(*size, frames, geometry)
        time, height, width = geometry.grid(*seen, frames)
        total += time * (height // geometry.merge) * (width // geometry.merge)
    return total


def agreement(sample: Sample, model: str, device: str) -> float:
    """The cosine of the image and the reference nearest to it."""
    from rewards.heads.embeddings_torch import clip_pictures, clip_texts

    options: dict[str, Any] = {"model": model, "device": device, "dtype": "float32", "batch": 16}
    pictures = clip_pictures([load_image(media) for media in images(sample)], **options)
    return float(np.max(pictures @ clip_texts(list(sample.answer["references"]), **options).T))


def language_of(sample: Sample) -> str | None:
    """The language of the prompt without its option letters."""
    return language(re.sub(r"^[A-Z]\. ", "", prompt_text(sample.prompt), flags=re.MULTILINE))
