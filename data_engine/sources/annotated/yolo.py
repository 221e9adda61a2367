"""YOLO, as Ultralytics writes it: a text file of boxes for each picture, and a YAML file with the names of classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from data_engine.media.frame_folder import natural
from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, check_categories, object_samples
from data_engine.sources.base import Items, RowError, existing_file, quarantined
from data_engine.sources.row_format import Exif, xyxy
from data_engine.sources.row_media import IMAGES
from mmrl.core.config import InputError, nearest
from mmrl.core.media.files import look_at
from mmrl.core.vision import CoordinateSpace

CORNERED = 7  # numbers of a line from which on it holds the corners of a polygon


def yolo(
    *,
    path: str,
    root: Path,
    split: str = "train",
    task: Task = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    exif: Exif = "applied",
    empty: bool = False,
) -> Items:
    """The pictures of a YOLO dataset, asked about as by `coco`. `path` is its `data.yaml`, with `names` and folders.

    The labels of `images/train/1.jpg` are the lines `CLASS X Y WIDTH HEIGHT` of `labels/train/1.txt`: the centre and
    the size of a box as shares of the picture, or the corners of a polygon, of which the hull counts. A picture without
    labels is one without objects.
    """
    file = existing_file(root, path, "data.yaml")
    about = _about(file)
    names, pictures = _names(about, file), _pictures(about, file, split)
    wanted = categories or list(dict.fromkeys(names.values()))
    check_categories(wanted, set(names.values()), file)
    space = CoordinateSpace.unit
    asked = Asked(source="yolo", task=task, question=question, space=space, exif=exif, written="cxcywh", empty=empty)

    def samples() -> Items:
        for folder, picture in pictures:
            labels = _labels_of(folder / picture)
            where = f"{path}: {picture}"
            try:
                objects = list(_objects(labels, names)) if labels.is_file() else []
            except RowError as error:
                yield quarantined(error, "yolo", where, {"file": picture})
                continue
            meta = {"split": split}
            entry = Annotated(where=where, file=picture, categories=wanted, objects=objects, meta=meta)
            yield from object_samples(entry, folder, asked)

    return samples()


def _about(file: Path) -> dict[str, Any]:
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    if not isinstance(about, dict):
        raise InputError(f"{file} must hold names and folders: {{names: [cat, dog], train: images/train}}")
    return about


def _names(about: dict[str, Any], file: Path) -> dict[int, str]:
    given = about.get("names")
    names = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        raise InputError(f"{file} needs names, the classes: [cat, dog] or {{0: cat, 1: dog}}; got {given!r:.80}")
    return {key: str(name) for key, name in names.items()}


def _pictures(about: dict[str, Any], file: Path, split: str) -> list[tuple[Path, str]]:
    """(folder, name below it) of the pictures of a split: a folder, a list of folders, or a file of names."""
    given = about.get(split, about.get({"val": "valid"}.get(split, split)))
    if given is None:
        raise InputError(f"{file} has no split {split}; {nearest(split, [key for key in about if key != 'names'])}")
    found = []
    for place in given if isinstance(given, list) else [given]:
        folder = _place(about, file, str(place))
        if folder.is_file():  # a list of pictures
            lines = [line.strip() for line in folder.read_text(encoding="utf-8").splitlines() if line.strip()]
            found += [(folder.parent, line.removeprefix("./")) for line in lines]
        else:
            inside = (entry for entry in folder.rglob("*") if entry.suffix.lower()[1:] in IMAGES)
            found += [(folder, entry.relative_to(folder).as_posix()) for entry in inside]
    if not found:
        raise InputError(f"{file}: the split {split} has no pictures at {given}")
    return sorted(found, key=lambda picture: natural(picture[1]))


def _place(about: dict[str, Any], file: Path, place: str) -> Path:
    """A folder or list of the YAML file: below its `path`, or below the file itself; Roboflow writes `../train`."""
    starts = [file.parent / str(about.get("path") or "."), file.parent]
    for candidate in (start / name for start in starts for name in (place, place.removeprefix("../"))):
        look_at(candidate)
        if candidate.exists():
            return candidate
    raise InputError(f"{file} names {place}, and there is nothing at {starts[0] / place}")


def _labels_of(picture: Path) -> Path:
    """The file of labels: the last folder `images` of the path is `labels` there; else it stands beside the picture."""
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    file = Path(*parts).with_suffix(".txt")
    look_at(file)
    return file


def _objects(labels: Path, names: dict[int, str]) -> Iterator[tuple[str, Box]]:
    """(name of the class, corners in the unit square) of each line of a file."""
    for number, line in enumerate(labels.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{labels.name}:{number}"
        try:
            key, *sides = map(float, line.split())
        except ValueError:
            raise RowError("bad_box", f"{where}: a line is CLASS X Y WIDTH HEIGHT, got {line!r:.80}") from None
        if key not in names:
            raise RowError("unknown_category", f"{where}: class {key:g} has no name; named are 0 to {max(names)}")
        if len(sides) == 4:
            ((x1, y1, x2, y2),) = xyxy(sides, "cxcywh")
        elif len(sides) >= CORNERED - 1 and len(sides) % 2 == 0:
            x1, y1, x2, y2 = min(sides[0::2]), min(sides[1::2]), max(sides[0::2]), max(sides[1::2])
        else:
            right = "four for a box, or six and more for the corners of a polygon"
            raise RowError("bad_box", f"{where}: a line has {len(sides)} numbers after the class; {right}")
        yield names[int(key)], [x1, y1, x2, y2]
