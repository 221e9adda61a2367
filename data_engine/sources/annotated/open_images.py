"""Open Images: one CSV file with the boxes of all pictures, and one with the names of the classes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, check_categories, object_samples
from data_engine.sources.base import Items, RowError, existing, existing_file, quarantined
from data_engine.sources.row_format import Exif, Row
from data_engine.sources.tables import csv_rows
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

SIDES = ("XMin", "YMin", "XMax", "YMax")
COLUMNS = ("ImageID", "LabelName", *SIDES)


def open_images(
    *,
    annotations: str,
    classes: str,
    images: str,
    root: Path,
    task: Task = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    exif: Exif = "applied",
    extension: str = "jpg",
) -> Items:
    """The pictures of Open Images: `annotations` is the CSV file of boxes, `classes` that of the names of classes.

    A picture is asked about those of the `categories` that it shows: nobody looked for all others in it. Groups
    (`IsGroupOf`) are left out as crowds are by `coco`. The lines of a picture must follow each other, as they do in the
    published files.
    """
    file, described = (
        existing_file(root, annotations, "CSV file of boxes"),
        existing_file(root, classes, "CSV of classes"),
    )
    folder = existing(root, images, "image folder")
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        head = next(csv.reader(text), [])
    if missing := [name for name in COLUMNS if name not in head]:
        raise InputError(
            f"{file} has no column {', '.join(missing)}; the boxes of Open Images have {', '.join(COLUMNS)}"
        )
    names = _names(described)
    check_categories(categories or (), set(names.values()), described)
    asked = Asked(
        source="open_images", task=task, question=question, space=CoordinateSpace.unit, exif=exif, written="xyxy"
    )

    def samples() -> Items:
        seen = set[str]()
        for image, rows in _by_image(csv_rows(file, annotations)):
            where = f"{annotations}: image {image}"
            try:
                if image in seen:
                    raise RowError("duplicate_image", "its lines are in several places of the file; sort it by ImageID")
                entry = _annotated(where, f"{image}.{extension}", rows, names, categories)
            except RowError as error:
                yield quarantined(error, "open_images", where, {"ImageID": image})
            else:
                yield from object_samples(entry, folder, asked)
            seen.add(image)

    return samples()


def _by_image(rows: Iterator[Row]) -> Iterator[tuple[str, list[Row]]]:
    for image, group in groupby(rows, lambda row: str(row.values.get("ImageID"))):
        yield image, list(group)


def _annotated(where: str, file: str, rows: list[Row], names: dict[str, str], wanted: list[str] | None) -> Annotated:
    objects, groups = list[tuple[str, Box]](), set[str]()
    for row in rows:
        if row.error:
            raise row.error
        label, box = _object(row.values, names)
        groups |= {label} if row.values.get("IsGroupOf") == "1" else set()
        objects += [] if row.values.get("IsGroupOf") == "1" else [(label, box)]
    there = dict.fromkeys(label for label, _ in objects)
    shown = [name for name in wanted or sorted(there) if name in there]
    return Annotated(where=where, file=file, categories=shown, objects=objects, crowds=groups)


def _object(values: dict[str, Any], names: dict[str, str]) -> tuple[str, Box]:
    label = names.get(values.get("LabelName", ""))
    if label is None:
        raise RowError("unknown_category", f"the class {values.get('LabelName')!r} has no name of its own in the list")
    try:
        return label, [float(values.get(side, "")) for side in SIDES]
    except ValueError:
        sides = ", ".join(f"{side} {values.get(side)!r}" for side in SIDES)
        raise RowError("bad_box", f"a box has four numbers from 0 to 1, got {sides}") from None


def _names(file: Path) -> dict[str, str]:
    """label -> name of the classes; those that share a name have none, as they could not be told apart."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        rows = [row for row in csv.reader(text) if row]
    if not rows or any(len(row) != 2 for row in rows):
        raise InputError(f"{file} must have two columns without quotes around them: /m/011k07,Tortoise")
    names = {label: name for label, name in rows if label != "LabelName"}
    used = Counter(names.values())
    return {label: name for label, name in names.items() if used[name] == 1}
