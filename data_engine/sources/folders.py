"""A folder of images whose sub-folders are classes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import Field

from data_engine import seeding
from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import Items, RowError, existing, quarantined
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError, look_at, resolve
from mmrl.core.media.item import Media

LAYOUTS = {"pascal_voc": {"annotations", "jpegimages"}, "yolo": {"images", "labels"}, "coco": {"images", "annotations"}}


def image_folder(
    *,
    path: str,
    root: Path,
    seed: int = 0,
    question: str = "What does the image show?",
    options: Annotated[int, Field(ge=2, le=26)] = 4,
) -> Items:
    """One choice question per image: the first folder below `path` is its class.

    `options` is the number of options; the wrong ones are drawn from all classes. A folder without a picture is no
    class.
    """
    folder = existing(root, path, "image folder")
    _refuse_annotations(folder)
    classes = sorted(entry.name for entry in _shown(folder) if entry.is_dir() and _has_picture(entry))
    if len(classes) < 2:
        raise InputError(f"{folder} needs a sub-folder of images per class, at least two; found {classes}")

    def samples() -> Items:
        for file in _files(folder):
            inside = file.relative_to(folder)
            where = f"{path}/{inside.as_posix()}"
            try:
                media = _image(folder, inside)
                text, answer = seeding.choice(question, inside.parts[0], classes, options, seed, inside.as_posix())
                prompt = user_prompt(text, ["image"])
                yield Sample("", "image_folder", "choice", prompt, answer, (media,), {"where": where})
            except (RowError, MediaError) as error:
                yield quarantined(error, "image_folder", where, {"path": where})

    return samples()


def _refuse_annotations(folder: Path) -> None:
    """Refuse a folder whose sub-folders are those of an annotation format, and no classes."""
    there = {entry.name.casefold() for entry in _shown(folder) if entry.is_dir()}
    for source, names in LAYOUTS.items():
        if names <= there:
            raise InputError(
                f"{folder} holds {', '.join(sorted(names))}: not classes, but {source}; use the source {source}"
            )


def _has_picture(folder: Path) -> bool:
    return any(file.suffix.lower() in _image_suffixes() for file in folder.rglob("*") if not file.name.startswith("."))


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, in order, with links that lead out of it; hidden files are left out."""
    root = folder.resolve()
    for entry in _shown(folder):
        yield from _below(entry, root, {root}) if entry.is_dir() else [entry]


def _below(folder: Path, root: Path, seen: set[Path]) -> Iterator[Path]:
    """The files of a class folder. Linked folders are read too, each once, because links may form a circle.

    A folder outside of `root` is returned as it is, to be refused.
    """
    real = folder.resolve()
    if not real.is_relative_to(root):
        yield folder
    elif real not in seen:
        seen.add(real)
        look_at(real)
        for entry in _shown(folder):
            yield from _below(entry, root, seen) if entry.is_dir() else [entry]


def _shown(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _image(folder: Path, inside: Path) -> Media:
    path = resolve(inside, folder)
    if len(inside.parts) < 2:
        raise RowError("no_class", "the file is not in a class folder; move it into one")
    if inside.suffix.lower() not in _image_suffixes():
        raise RowError("not_an_image", f"{inside.suffix!r} is not the suffix of an image format; remove the file")
    return Media("image", path=str(path))


@functools.cache
def _image_suffixes() -> frozenset[str]:
    return frozenset(Image.registered_extensions())
