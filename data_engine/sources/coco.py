"""COCO JSON: boxes of named categories on photographs, and captions of photographs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import Items, RowError, existing, quarantined, shown_size
from data_engine.sources.row_format import Exif, pixels, upright, xyxy
from mmrl.core.config import InputError, nearest
from mmrl.core.media.files import MediaError, resolve
from mmrl.core.media.image import orientation_of
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace
from rewards.tasks.keys import BadAnswer

Box = list[float]
Size = tuple[int, int]

QUESTIONS = {
    "detection": "Find every object of these categories: {categories}.",
    "grounding": "Locate the {categories}.",
}
CAPTION = "Describe the picture in one sentence."


def coco(
    *,
    annotations: str,
    images: str,
    root: Path,
    task: Literal["detection", "grounding"] = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    space: CoordinateSpace = CoordinateSpace.pixel,
    exif: Exif = "applied",
) -> Items:
    """Detection: one sample per image, with all boxes of `categories` (default: all categories of the file). Grounding:
    one sample for each category that occurs exactly once in an image.

    `{categories}` in the question is replaced. Crowds and boxes without area are left out, and `meta` names their
    categories.
    """
    file, folder = existing(root, annotations, "COCO annotation file"), existing(root, images, "image folder")
    asked = question or QUESTIONS[task]

    def samples() -> Items:
        data = _read(file)
        names = {repr(entry.get("id")): str(entry.get("name")) for entry in data["categories"]}  # any JSON is an id
        wanted = categories or sorted(set(names.values()))
        if unknown := [name for name in wanted if name not in names.values()]:
            raise InputError(f"{file} has no category {unknown[0]!r}; {nearest(unknown[0], set(names.values()))}")
        by_image = defaultdict(list)
        for annotation in data["annotations"]:
            by_image[repr(annotation.get("image_id"))].append(annotation)
        for entry in data["images"]:
            where = f"{annotations}: image {entry.get('id')}"
            instances = by_image.pop(repr(entry.get("id")), [])
            try:
                media = Media("image", path=str(resolve(str(entry.get("file_name")), folder)))
                objects = [_object(instance, names) for instance in instances if not instance.get("iscrowd")]
                crowds = {
                    names.get(repr(instance.get("category_id"))) for instance in instances if instance.get("iscrowd")
                }
                boxes = _shown(media, entry, [box for _, box in objects], space, exif)
            except (RowError, MediaError) as error:
                yield quarantined(error, "coco", where, entry)
                continue
            labelled = [(label, box) for (label, _), box in zip(objects, boxes, strict=True) if label in wanted]
            flat = {label for label, box in labelled if _is_flat(box)}
            left_out = {"crowds": sorted(set(wanted) & crowds), "no_area": sorted(flat)}
            meta = {"where": where, **left_out, "box_space": space.value, "box_format": "xywh"}
            labelled = [(label, box) for label, box in labelled if not _is_flat(box)]
            for text, answer in _asked(task, asked, wanted, labelled, crowds | flat):
                yield Sample("", "coco", task, user_prompt(text, ["image"]), answer, (media,), meta)
        yield from _orphans(by_image, annotations, "coco")

    return samples()


def coco_captions(*, annotations: str, images: str, root: Path, question: str = CAPTION) -> Items:
    """One sample per image of a COCO captions file, with all of its captions as references."""
    file, folder = existing(root, annotations, "COCO captions file"), existing(root, images, "image folder")

    def samples() -> Items:
        data = _read(file, ("images", "annotations"))
        captions = defaultdict(list)
        for annotation in data["annotations"]:
            captions[repr(annotation.get("image_id"))].append(annotation)
        for entry in data["images"]:
            where, own = f"{annotations}: image {entry.get('id')}", captions.pop(repr(entry.get("id")), [])
            try:
                width, height = (entry[name] if type(entry.get(name)) is int else None for name in ("width", "height"))
                path = str(resolve(str(entry.get("file_name")), folder))
                media = Media("image", path=path, width=width, height=height)  # `validate` checks the size
                answer = {"references": [_caption(caption) for caption in own]}
                if not own:
                    raise RowError("no_answer", "the image has no caption under annotations")
                yield Sample(
                    "", "coco_captions", "caption", user_prompt(question, ["image"]), answer, (media,), {"where": where}
                )
            except (RowError, MediaError) as error:
                yield quarantined(error, "coco_captions", where, entry)
        yield from _orphans(captions, annotations, "coco_captions")

    return samples()


def _caption(annotation: dict[str, Any]) -> str:
    text = annotation.get("caption")
    if not isinstance(text, str) or not text.strip():
        raise RowError("no_answer", f"annotation {annotation.get('id')}: the caption must be a text, got {text!r:.80}")
    return " ".join(text.split())


def _orphans(left: dict[str, list[Any]], annotations: str, source: str) -> Items:
    """An entry for each image id that has annotations but is not listed in the file."""
    for image_id, orphans in left.items():
        error = RowError("unknown_image", f"{len(orphans)} annotations of an image that is not listed under images")
        yield quarantined(error, source, f"{annotations}: image {image_id}", orphans[0])


def _asked(
    task: str, question: str, wanted: list[str], labelled: list[tuple[str, Box]], left_out: set[str | None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The (question, answer) pairs of the samples of one image.

    Crowds and boxes without area are left out; a category with such boxes is not used for grounding.
    """
    if task == "detection":
        answer = {"boxes": [box for _, box in labelled], "labels": [label for label, _ in labelled]}
        if labelled:
            yield question.replace("{categories}", ", ".join(wanted)), answer
        return
    boxes: dict[str, list[Box]] = defaultdict(list)
    for label, box in labelled:
        boxes[label].append(box)
    for label, group in boxes.items():
        if len(group) == 1 and label not in left_out:
            yield question.replace("{categories}", label), {"boxes": group}


def _read(file: Path, keys: Sequence[str] = ("images", "annotations", "categories")) -> dict[str, Any]:
    """The file's JSON without the segmentations, which are most of its size."""
    try:
        with file.open(encoding="utf-8") as text:
            data = json.load(text, object_hook=lambda entry: {k: v for k, v in entry.items() if k != "segmentation"})
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    for key in keys:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{file} is not COCO JSON: it needs a list of objects under {key}")
    return data


def _object(annotation: dict[str, Any], names: dict[str, str]) -> tuple[str, Box]:
    """The (label, xyxy box) of an annotation."""
    which = f"annotation {annotation.get('id')}"
    label = names.get(repr(annotation.get("category_id")))
    if label is None:
        raise RowError("unknown_category", f"{which}: category_id {annotation.get('category_id')!r} is not defined")
    try:
        (box,) = xyxy(annotation.get("bbox"), "xywh")
    except BadAnswer as error:
        raise RowError("bad_box", f"{which}: bbox [x, y, width, height]: {error}") from None
    return label, box


def _is_flat(box: Box) -> bool:
    return box[0] == box[2] or box[1] == box[3]


def _shown(media: Media, entry: dict[str, Any], boxes: list[Box], space: str, exif: str) -> list[Box]:
    """The boxes in pixels of the image as it is shown, after EXIF rotation."""
    size, orientation = shown_size(media), orientation_of(media)
    stored = (size[1], size[0]) if orientation >= 5 else size
    drawn_on = size if exif == "applied" else stored
    declared = (entry.get("width", drawn_on[0]), entry.get("height", drawn_on[1]))
    if declared != drawn_on:
        hint = "; its boxes are of the stored pixels, set exif: ignored" if declared == stored else ""
        message = f"{entry.get('file_name')} is declared as {declared}, the image is {drawn_on}{hint}"
        raise RowError("size_mismatch", message)
    boxes = pixels(boxes, space, drawn_on)
    return boxes if exif == "applied" else [upright(box, stored, orientation) for box in boxes]
