"""Samples of the task `edit` as an editor needs them: an instruction, a source picture, and an edit of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.media.files import place_of
from mmrl.core.media.image import image_size, load_image
from mmrl.core.media.item import Media
from mmrl.core.messages import user_text

TASK = "edit"


def row_of(sample: Sample) -> dict[str, Any]:
    """A sample as a row of a training dataset."""
    return {"answer": sample.answer, "prompt": sample.prompt, "media": sample.media}


def instruction_of(row: Mapping[str, Any]) -> str:
    """What is asked: the gold's `instruction`, else the text of the prompt."""
    return row["answer"].get("instruction") or user_text(row["prompt"])


def source_of(row: Mapping[str, Any]) -> Media:
    """The picture to edit."""
    return row["media"][0]


def edit_of(row: Mapping[str, Any]) -> Media | None:
    """The edit that the sample shows; None where it has the source alone."""
    return row["media"][1] if len(row["media"]) > 1 else None


def asked_and_right(sample: Sample) -> tuple[tuple[Media, ...], tuple[Media, ...]]:
    """(what a policy is shown, the pictures that would be right)."""
    return sample.media[:1], sample.media[1:2]


def opened(media: Sequence[Media]) -> list[Image.Image]:
    """The pictures of media."""
    return [load_image(item) for item in media]


def fitted(size: tuple[int, int], step: int, pixels: int) -> tuple[int, int]:
    """The size in which a picture is made: of at most so many pixels, its sides multiples of `step`.

    >>> fitted((1500, 1000), 16, 1024**2), fitted((20, 9), 8, 1024**2)
    ((1248, 832), (16, 8))
    """
    scale = min(1.0, math.sqrt(pixels / (size[0] * size[1])))
    width, height = (max(step, int(side * scale) // step * step) for side in size)
    return width, height


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in a size; itself if it has that already."""
    return picture if picture.size == size else picture.resize(size)


def check_size(size: tuple[int, int], step: int) -> None:
    """InputError for a size in pixels that a VAE and patches which take multiples of `step` cannot take."""
    if any(side % step for side in size):
        raise InputError(f"a picture of {size[0]}x{size[1]}; both sides must be multiples of {step}")


def check_asked(samples: Sequence[Sample]) -> None:
    """InputError for samples that no policy which makes pictures can be asked about."""
    tasks = Counter(sample.task for sample in samples if sample.task != TASK)
    if tasks:
        raise InputError(f"an editor answers the task {TASK}; the data have {', '.join(sorted(tasks))}")
    for sample in samples:
        kinds = [media.kind for media in sample.media]
        if kinds not in (["image"], ["image", "image"]):
            raise InputError(f"sample {sample.id} shows {kinds}; must be a source picture, and perhaps its edit")
        if not instruction_of(row_of(sample)).strip():
            raise InputError(f"sample {sample.id} has no instruction, neither in its answer nor in its prompt")


def check_edits(samples: Sequence[Sample], step: int, *, edits: bool) -> None:
    """InputError for samples that an editor of pictures with multiples of `step` pixels cannot be asked about, or, with
    `edits`, that show none to learn from."""
    check_asked(samples)
    for sample in samples:
        if edits and edit_of(row_of(sample)) is None:
            raise InputError(
                f"sample {sample.id} shows no edit to learn from; sft: needs one after each source picture"
            )
    sizes = Counter(_size(media) for sample in samples for media in (sample.media if edits else sample.media[:1]))
    if len(sizes) > 1:
        (most, count), (other, few), *_ = sizes.most_common()
        raise InputError(
            f"pictures of {len(sizes)} sizes, such as {count:,} of {_named(most)} and {few:,} of {_named(other)}; an "
            "editor's batches need one size"
        )
    check_size(next(iter(sizes)), step)


def _size(media: Media) -> tuple[int, int]:
    if media.width and media.height:
        return media.width, media.height
    return image_size(place_of(media))


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
