"""Pictures to be made under a condition, such as edges: the condition is the source picture of the task `edit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import existing
from data_engine.sources.editing.edit_pairs import picture_files
from data_engine.sources.synthesis import Split, cropped, photographs, rng_of
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from rewards.rules.conditions import Extractor, read_from

ASKED = "a photograph with this as its condition"


def conditions(
    photos: str | None = None,
    *,
    n: PositiveInt,
    seed: int = 0,
    side: Annotated[int, Field(ge=8, multiple_of=2)] = 192,
    split: Split = "train",
    extractor: Extractor = "edges",
    text: str = ASKED,
    root: Path = Path(),
) -> Iterator[Sample]:
    """`n` samples of the task `edit` for policies that make a picture under a condition: what `extractor` reads from a
    photograph, and the photograph.

    `extractor` is one of the reward `condition_match`, `text` the instruction of all samples. `photos` is a folder of
    pictures; the default is the photographs of installed packages, others for each split.
    """
    files = picture_files(existing(root, photos, "folder of photographs")) if photos is not None else []
    return _read(files, n, seed, side, split, extractor, text)


def _read(
    files: Sequence[Path], n: int, seed: int, side: int, split: Split, extractor: str, text: str
) -> Iterator[Sample]:
    opened = [load_image(str(file)) for file in files] or photographs(split)
    meta = {"split": split} if files else {"split": split, "licence": "BSD-3-Clause"}
    prompt = user_prompt(text, ["image", "image"])
    for index in range(n):
        photo = cropped(rng_of("conditions", split, seed, index), opened, side, side)
        read = np.round(read_from(photo / 255, extractor) * 255).clip(0, 255).astype(np.uint8)
        shown = Image.fromarray(read[0] if len(read) == 1 else read.transpose(1, 2, 0))
        media = as_media(shown), as_media(Image.fromarray(photo))
        yield Sample("", "conditions", "edit", prompt, {"instruction": text}, media, meta)
