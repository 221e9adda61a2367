"""Pascal VOC: an XML file of objects for each picture, as VOC, LabelImg, CVAT and Roboflow write them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, check_categories, object_samples
from data_engine.sources.base import Items, RowError, existing, quarantined
from data_engine.sources.row_format import Exif
from data_engine.sources.row_media import IMAGES
from mmrl.core.config import InputError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
DECLARES = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)  # entities could grow without end


class Sheet(NamedTuple):
    """What one XML file says, or why it says nothing."""

    where: str
    file: str
    size: tuple[Any, Any]
    objects: list[tuple[str, Box]]
    left_out: set[str]  # categories with difficult objects
    error: RowError | None = None


def pascal_voc(
    *,
    annotations: str,
    images: str,
    root: Path,
    task: Task = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    exif: Exif = "applied",
    difficult: bool = False,
    origin: int = 1,
    empty: bool = False,
) -> Items:
    """The pictures of a folder of Pascal VOC XML files (`annotations`), asked about as by `coco`.

    VOC counts pixels from 1, so that a box begins one pixel before the number of its first one; set `origin: 0` for
    files of programs that count from 0. Objects marked `difficult` are left out unless `difficult` is true.
    """
    if origin not in (0, 1):
        raise InputError(f"origin is {origin}; the first pixel of a picture is 1 (Pascal VOC) or 0")
    folder, pictures = existing(root, annotations, "folder of XML files"), existing(root, images, "image folder")
    files = sorted(folder.rglob("*.xml")) if folder.is_dir() else [folder]
    if not files:
        raise InputError(f"no *.xml file in {folder}")
    asked = Asked(source="pascal_voc", task=task, question=question, exif=exif, written="xyxy", empty=empty)

    def samples() -> Items:
        names = sorted(
            {label for sheet in _sheets(files, folder, pictures, origin, True) for label, _ in sheet.objects}
        )
        wanted = categories or names
        check_categories(wanted, names, folder)
        for sheet in _sheets(files, folder, pictures, origin, difficult):
            if sheet.error:
                yield quarantined(sheet.error, "pascal_voc", sheet.where, sheet.where)
                continue
            named = {"where": sheet.where, "file": sheet.file, "size": sheet.size}
            entry = Annotated(**named, categories=wanted, objects=sheet.objects, crowds=sheet.left_out)
            yield from object_samples(entry, pictures, asked)

    return samples()


def _sheets(files: list[Path], folder: Path, pictures: Path, origin: int, difficult: bool) -> Iterator[Sheet]:
    for file in files:
        where = file.name if file == folder else f"{folder.name}/{file.relative_to(folder).as_posix()}"
        try:
            yield _sheet(where, file, pictures, origin, difficult)
        except RowError as error:
            yield Sheet(where, "", (None, None), [], set(), error)


def _sheet(where: str, file: Path, pictures: Path, origin: int, difficult: bool) -> Sheet:
    content = file.read_bytes()
    if DECLARES.search(content):
        raise RowError("bad_xml", "the file declares a DOCTYPE or entities, which annotations do not need; remove them")
    try:
        sheet = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise RowError("bad_xml", f"the file is not XML: {error}") from None
    found = [(one, _text(one, "name"), _text(one, "difficult") == "1") for one in sheet.iter("object")]
    hard = {name for _, name, is_difficult in found if is_difficult and not difficult}
    objects = [(name, _box(one, origin)) for one, name, is_difficult in found if difficult or not is_difficult]
    size = (_side(sheet, "size/width"), _side(sheet, "size/height"))
    return Sheet(where, _picture(sheet, file, pictures), size, objects, hard)


def _picture(sheet: ElementTree.Element, file: Path, pictures: Path) -> str:
    """The picture of a file: the one that it names, or that is called as itself."""
    named = _text(sheet, "filename")
    if named and os.path.isfile(pictures / named):
        return named
    own = (f"{file.stem}.{suffix}" for suffix in IMAGES)
    return next((name for name in own if (pictures / name).is_file()), named or f"{file.stem}.jpg")


def _box(entry: ElementTree.Element, origin: int) -> Box:
    sides = [_text(entry, f"bndbox/{name}") for name in CORNERS]
    try:
        x1, y1, x2, y2 = map(float, sides)
    except ValueError:
        raise RowError("bad_box", f"bndbox needs the numbers {', '.join(CORNERS)}, got {sides}") from None
    return [x1 - origin, y1 - origin, x2, y2]  # the last pixel is part of the box


def _side(sheet: ElementTree.Element, path: str) -> int | None:
    """A declared side in pixels; 0 and other texts declare nothing."""
    text = _text(sheet, path)
    return int(text) if text.isascii() and text.isdigit() and int(text) else None


def _text(entry: ElementTree.Element, path: str) -> str:
    return (entry.findtext(path) or "").strip()
