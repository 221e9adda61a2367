"""COCO JSON: boxes of named categories on photographs, and captions of photographs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine.licences import licence_at
from data_engine.operator import Quarantined
from data_engine.schema import Sample, user_prompt
from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, check_categories, object_samples
from data_engine.sources.base import Items, RowError, existing, quarantined
from data_engine.sources.row_format import Exif, xyxy
from data_engine.sources.row_media import Shown, kept_names
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError, resolve
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace
from rewards.tasks.keys import GoldError

CAPTION = "Describe the picture in one sentence."


def coco(
    *,
    annotations: str,
    images: str,
    root: Path,
    task: Task = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    space: CoordinateSpace = CoordinateSpace.pixel,
    exif: Exif = "applied",
    empty: bool = False,
) -> Items:
    """Detection: one sample per image, with all boxes of `categories` (default: all categories of the file). Grounding:
    one sample for each category that occurs exactly once in an image.

    `{categories}` in the question is replaced. Crowds and boxes without area are left out, and `meta` names their
    categories. An image without objects is dropped as `no_object`; with `empty` it is a detection whose answer is [].
    LVIS files are read, too: asked for are the categories that were looked for everywhere in that image.
    """
    file, folder = existing(root, annotations, "COCO annotation file"), existing(root, images, "image folder")
    asked = Asked(source="coco", task=task, question=question, space=space, exif=exif, empty=empty)

    def samples() -> Items:
        data = _read(file)
        names = _names(data, file)
        wanted = categories or sorted(set(names.values()))
        check_categories(wanted, set(names.values()), file)
        by_image, licences = _by_image(data), _licences(data)
        for entry, instances in _own(data, by_image, annotations, "coco"):
            if isinstance(instances, Quarantined):
                yield instances
                continue
            where = f"{annotations}: image {entry.get('id')}"
            crowds = {names.get(repr(one.get("category_id")), "") for one in instances if one.get("iscrowd")}
            try:
                objects = [_object(instance, names) for instance in instances if not instance.get("iscrowd")]
            except RowError as error:
                yield quarantined(error, "coco", where, entry)
                continue
            pictured = Annotated(
                where=where,
                file=_file_name(entry),
                categories=_looked_for(entry, wanted, names, {label for label, _ in objects}),
                objects=objects,
                crowds=crowds,
                size=(entry.get("width"), entry.get("height")),
                meta=licences.get(repr(entry.get("license")), {}),
            )
            yield from object_samples(pictured, folder, asked)
        yield from _orphans(by_image, annotations, "coco")

    return samples()


def coco_captions(*, annotations: str, images: str, root: Path, question: str = CAPTION) -> Items:
    """One sample per image of a COCO captions file, with all of its captions as references."""
    file, folder = existing(root, annotations, "COCO captions file"), existing(root, images, "image folder")

    def samples() -> Items:
        data = _read(file, ("images", "annotations"))
        captions, licences = _by_image(data), _licences(data)
        for entry, own in _own(data, captions, annotations, "coco_captions"):
            if isinstance(own, Quarantined):
                yield own
                continue
            where = f"{annotations}: image {entry.get('id')}"
            meta = {**licences.get(repr(entry.get("license")), {}), "where": where}
            try:
                width, height = (entry[name] if type(entry.get(name)) is int else None for name in ("width", "height"))
                path = str(resolve(_file_name(entry), folder))
                media = Media("image", path=path, width=width, height=height)  # `validate` checks the size
                answer = {"references": [_caption(caption) for caption in own]}
                if not own:
                    raise RowError("no_answer", "the image has no caption under annotations")
                meta |= kept_names([Shown(media, _file_name(entry))])
                yield Sample("", "coco_captions", "caption", user_prompt(question, ["image"]), answer, (media,), meta)
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


def _by_image(data: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The annotations of each image; any JSON value may be its id."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for annotation in data["annotations"]:
        by_image[repr(annotation.get("image_id"))].append(annotation)
    return by_image


def _own(
    data: dict[str, Any], by_image: dict[str, list[dict[str, Any]]], annotations: str, source: str
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]] | Quarantined]]:
    """(image, its annotations), which are taken out of `by_image`; the images of an id that is there twice are broken.

    An image that is listed twice as it is counts once.
    """
    listed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in data["images"]:
        listed[repr(entry.get("id"))].append(entry)
    for key, entries in listed.items():
        annotated = by_image.pop(key, [])
        if len({_file_name(entry) for entry in entries}) == 1:
            yield entries[0], annotated
            entries = entries[1:]
        for entry in entries:
            why = (
                f"the id {key} is there twice, so nobody knows which image its annotations belong to; give each its own"
            )
            where = f"{annotations}: image {entry.get('id')}, {_file_name(entry)}"
            yield entry, quarantined(RowError("duplicate_image", why), source, where, entry)


def _names(data: dict[str, Any], file: Path) -> dict[str, str]:
    """id -> name of the categories; any JSON value is an id."""
    names = {repr(entry.get("id")): str(entry.get("name")) for entry in data["categories"]}
    used = {repr(annotation.get("category_id")) for annotation in data["annotations"]} & names.keys()
    for name, count in Counter(names[key] for key in used).items():
        if count > 1:
            ids = ", ".join(sorted(key for key in used if names[key] == name))
            raise InputError(f"{file}: the categories {ids} are all called {name!r}; give each its own name, or one id")
    return names


def _licences(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """id of a licence -> the meta of its images."""
    listed = data.get("licenses")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    named = ((entry, licence_at(str(entry.get("url") or ""), str(entry.get("name") or ""))) for entry in entries)
    return {repr(entry.get("id")): {"licence": name} for entry, name in named if name}


def _file_name(entry: dict[str, Any]) -> str:
    """The name of a picture; LVIS has it in `coco_url`, with its folder."""
    url = entry.get("coco_url")
    if entry.get("file_name") is None and isinstance(url, str):
        return "/".join(url.split("/")[-2:])
    return str(entry.get("file_name"))


def _looked_for(entry: dict[str, Any], wanted: list[str], names: dict[str, str], there: set[str]) -> list[str]:
    """The categories of which all objects of an image are known: all, but in LVIS those that were looked for."""
    lists = [entry.get(key) for key in ("neg_category_ids", "not_exhaustive_category_ids")]
    if not all(isinstance(ids, list) for ids in lists):
        return wanted
    absent, partly = ({names.get(repr(key), "") for key in ids} for ids in lists if ids is not None)
    return [name for name in wanted if name in (there | absent) - partly]


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
    except GoldError as error:
        raise RowError("bad_box", f"{which}: bbox [x, y, width, height]: {error}") from None
    return label, box
