"""A folder of images whose sub-folders are classes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import Field

from data_engine import draw
from data_engine.media import MediaError, resolve
from data_engine.schema import Media, Sample, user_prompt
from data_engine.sources.base import Items, RowError, existing, quarantined
from mmrl.config import InputError


def image_folder(
    *,
    path: str,
    root: Path,
    seed: int = 0,
    question: str = "What does the image show?",
    options: Annotated[int, Field(ge=2, le=26)] = 4,
) -> Items:
    """A choice question per image: the first folder below `path` is its class, the options are drawn from all."""
    folder = existing(root, path, "image folder")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"{folder} needs a sub-folder of images per class, at least two; found {classes}")

    def samples() -> Items:
        for file in sorted(entry for entry in folder.rglob("*") if not entry.is_dir()):
            inside = file.relative_to(folder)
            if any(part.startswith(".") for part in inside.parts):
                continue
            where = f"{path}/{inside.as_posix()}"
            try:
                media = _image(folder, inside)
                text, answer = draw.choice(question, inside.parts[0], classes, options, seed, inside.as_posix())
                prompt = user_prompt(text, ["image"])
                yield Sample("", "image_folder", "choice", prompt, answer, (media,), {"where": where})
            except (RowError, MediaError) as error:
                yield quarantined(error, "image_folder", where, {"path": where})

    return samples()


def _image(folder: Path, inside: Path) -> Media:
    if len(inside.parts) < 2:
        raise RowError("no_class", "the file lies in no class folder; move it into one")
    if inside.suffix.lower() not in _image_suffixes():
        raise RowError("not_an_image", f"{inside.suffix!r} is no suffix of an image format; remove the file")
    return Media("image", path=str(resolve(inside, folder)))


@functools.cache
def _image_suffixes() -> frozenset[str]:
    return frozenset(Image.registered_extensions())
