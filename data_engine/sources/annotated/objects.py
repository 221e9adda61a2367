"""From the annotated objects of a picture to samples of detection and grounding, for all sources of such files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import Items, RowError, quarantined
from data_engine.sources.row_format import Coordinates, Exif, pixels, upright
from data_engine.sources.row_media import Shown, kept_names
from mmrl.core.config import InputError, nearest
from mmrl.core.media.files import MediaError, resolve
from mmrl.core.media.image import image_shape
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace

Box = list[float]
Task = Literal["detection", "grounding"]

QUESTIONS: dict[Task, str] = {
    "detection": "Find every object of these categories: {categories}.",
    "grounding": "Locate the {categories}.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a source asks about its pictures, and how the boxes of its files are written."""

    source: str
    task: Task
    question: str | None = None  # {categories} in it is replaced
    space: CoordinateSpace = CoordinateSpace.pixel
    exif: Exif = "applied"
    written: Coordinates = "xywh"  # the form of boxes in the file; those of `Annotated` are corners
    empty: bool = False  # a picture without an object is a sample whose answer is []

    @property
    def text(self) -> str:
        """The question before its categories are filled in."""
        return self.question or QUESTIONS[self.task]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """A picture and its objects, as a file lists them."""

    where: str
    file: str  # its name below the folder of pictures
    categories: list[str]  # that are asked for
    objects: list[tuple[str, Box]]  # label, and corners in the space of the file
    crowds: Set[str] = frozenset()  # categories with objects that do not count: crowds, difficult ones
    size: tuple[Any, Any] = (None, None)  # width and height that the file declares
    meta: dict[str, Any] = field(default_factory=dict)


def check_categories(wanted: Iterable[str], known: Collection[str], place: object) -> None:
    """InputError for a category that `place` does not have; it names the nearest one."""
    if unknown := [name for name in wanted if name not in known]:
        raise InputError(f"{place} has no category {unknown[0]!r}; {nearest(unknown[0], sorted(known))}")


def object_samples(entry: Annotated, folder: Path, asked: Asked) -> Items:
    """Detection: one sample with all boxes of the categories. Grounding: one for each category that occurs once.

    A category with crowds, or with boxes that have no area, is left out of grounding; such boxes count nowhere. A
    picture about which there is nothing to ask is given as `no_object`.
    """
    try:
        media = Media("image", path=str(resolve(entry.file, folder)))
        boxes = _placed(media, entry, asked)
    except (RowError, MediaError) as error:
        yield quarantined(error, asked.source, entry.where, {"file": entry.file, **entry.meta})
        return
    labels = [label for label, _ in entry.objects]
    labelled = [(label, box) for label, box in zip(labels, boxes, strict=True) if label in entry.categories]
    flat = {label for label, box in labelled if _is_flat(box)}
    left_out = {"crowds": sorted({*entry.categories} & entry.crowds), "no_area": sorted(flat)}
    places = {"box_space": asked.space.value, "box_format": asked.written}
    names = kept_names([Shown(media, entry.file)])
    meta = {**entry.meta, **names, "where": entry.where, **left_out, **places}
    labelled = [(label, box) for label, box in labelled if not _is_flat(box)]
    pairs = list(_pairs(asked, entry.categories, labelled, entry.crowds | flat))
    for text, answer in pairs:
        yield Sample("", asked.source, asked.task, user_prompt(text, ["image"]), answer, (media,), meta)
    if not pairs:
        once = "" if asked.task == "detection" else " that occurs exactly once"
        error = RowError("no_object", f"{entry.file} shows none of the categories{once}")
        yield quarantined(error, asked.source, entry.where, {"file": entry.file, **entry.meta})


def _pairs(
    asked: Asked, wanted: list[str], labelled: list[tuple[str, Box]], left_out: Set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The (question, answer) pairs of the samples of one picture."""
    if asked.task == "detection":
        answer = {"boxes": [box for _, box in labelled], "labels": [label for label, _ in labelled]}
        if labelled or (asked.empty and wanted and not left_out & {*wanted}):
            yield asked.text.replace("{categories}", ", ".join(wanted)), answer
        return
    boxes: dict[str, list[Box]] = defaultdict(list)
    for label, box in labelled:
        boxes[label].append(box)
    for label, group in boxes.items():
        if len(group) == 1 and label not in left_out:
            yield asked.text.replace("{categories}", label), {"boxes": group}


def _is_flat(box: Box) -> bool:
    return box[0] == box[2] or box[1] == box[3]


def _placed(media: Media, entry: Annotated, asked: Asked) -> list[Box]:
    """The boxes in pixels of the image as it is shown, after EXIF rotation."""
    size, orientation = image_shape(media)
    stored = (size[1], size[0]) if orientation >= 5 else size
    drawn_on = size if asked.exif == "applied" else stored
    width, height = entry.size
    declared = (drawn_on[0] if width is None else width, drawn_on[1] if height is None else height)
    if declared != drawn_on:
        hint = "; its boxes are of the stored pixels, set exif: ignored" if declared == stored else ""
        raise RowError("size_mismatch", f"{entry.file} is declared as {declared}, the image is {drawn_on}{hint}")
    boxes = pixels([box for _, box in entry.objects], asked.space, drawn_on)
    return boxes if asked.exif == "applied" else [upright(box, stored, orientation) for box in boxes]
