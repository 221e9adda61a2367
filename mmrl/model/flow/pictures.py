"""Samples as policies that make pictures need them: of the task `edit` an instruction, a source picture and an edit of
it; of the task `text_to_image` a text and a picture of it, which is not always there; of `text_to_video` a text alone.
"""

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

EDIT, FROM_TEXT, VIDEO = "edit", "text_to_image", "text_to_video"
SIDE = 512  # pixels a side of a picture of a text, where nothing says more
FRAMES = 81  # of a video


def row_of(sample: Sample) -> dict[str, Any]:
    """A sample as a row of a training dataset."""
    return {"task": sample.task, "answer": sample.answer, "prompt": sample.prompt, "media": sample.media}


def instruction_of(row: Mapping[str, Any]) -> str:
    """What is asked: the gold's `instruction`, else the text of the prompt."""
    return row["answer"].get("instruction") or user_text(row["prompt"])


def sources_of(row: Mapping[str, Any]) -> Sequence[Media]:
    """The picture to edit; none of a text alone."""
    return row["media"][: row["task"] == EDIT]


def right_of(row: Mapping[str, Any]) -> Sequence[Media]:
    """The picture that is right: the edit, or one of the text; none where the sample does not show it."""
    return row["media"][row["task"] == EDIT :]


def condition_of(policy: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The condition of a policy (`mmrl.model.flow.kontext`) for rows of one task. A picture of a text has the size of
    the right one, if the first row has it, else that of the policy."""
    asked, sources = [instruction_of(row) for row in rows], [media for row in rows for media in sources_of(row)]
    if sources:
        return policy.condition(asked, opened(sources))
    right = right_of(rows[0])
    return policy.condition(asked, None, size_of(right[0]) if right else (policy.side, policy.side))


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
    tasks = {sample.task for sample in samples}
    if others := tasks - {EDIT, FROM_TEXT, VIDEO}:
        raise InputError(
            f"pictures are made of {EDIT} and {FROM_TEXT}, videos of {VIDEO}; the data have {', '.join(sorted(others))}"
        )
    for sample in samples:
        kinds = [media.kind for media in sample.media]
        least = int(sample.task == EDIT)
        if sample.task == VIDEO and kinds:
            raise InputError(f"sample {sample.id} shows {kinds}; a video is made of a text alone")
        if kinds not in (["image"] * least, ["image"] * (least + 1)):
            wanted = "a source picture, and perhaps its edit" if least else "nothing, or the picture that is right"
            raise InputError(f"sample {sample.id} shows {kinds}; must be {wanted}")
        if not instruction_of(row_of(sample)).strip():
            raise InputError(f"sample {sample.id} has no instruction, neither in its answer nor in its prompt")


def check_edits(samples: Sequence[Sample], step: int, *, edits: bool) -> None:
    """InputError for samples that an editor of pictures with multiples of `step` pixels cannot be asked about, or, with
    `edits`, that show none to learn from."""
    check_asked(samples)
    if len(tasks := {sample.task for sample in samples}) > 1:
        raise InputError(f"the data have the tasks {' and '.join(sorted(tasks))}; a run learns one of them")
    for sample in samples:
        if edits and not right_of(row_of(sample)):
            raise InputError(
                f"sample {sample.id} shows no picture to learn from; sft: needs an edit after each source picture, or "
                "a picture of each text; of videos there is no sft:"
            )
    sizes = Counter(size_of(media) for sample in samples for media in _sized(sample, edits))
    if len(sizes) > 1:
        (most, count), (other, few), *_ = sizes.most_common()
        raise InputError(
            f"pictures of {len(sizes)} sizes, such as {count:,} of {_named(most)} and {few:,} of {_named(other)}; an "
            "editor's batches need one size"
        )
    for size in sizes:
        check_size(size, step)


def _sized(sample: Sample, edits: bool) -> Sequence[Media]:
    """The pictures that decide the size of what is made."""
    return sample.media if edits or sample.task == FROM_TEXT else sample.media[:1]


def size_of(media: Media) -> tuple[int, int]:
    """The width and the height of a picture in pixels."""
    if media.width and media.height:
        return media.width, media.height
    return image_size(place_of(media))


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
