"""Phrases that name a place in a picture: RefCOCO, Visual Genome, OS-Atlas."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import pyarrow.parquet as pq

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.json_lines import json_entries
from data_engine.sources.row_format import Coordinates, Exif, Row, Rows, licence_of, own_licence, samples_of
from data_engine.sources.row_media import NAMES
from data_engine.sources.tables import parquet_files, parquet_rows
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

QUESTION = "Locate this in the picture: {phrase}."
PHRASES = ("sentences", "answer")  # columns of the hub's tables, the first that is there counts
PICTURES = ("image", "image_path", "file_name")
IDS = ("ref_id", "question_id", "split")
REF = ("ref_id", "image_id", "ann_id", "split")


def refcoco(
    *, refs: str, instances: str, images: str, root: Path, question: str = QUESTION, exif: Exif = "applied"
) -> Items:
    """The sentences of a refs pickle (`refs(unc).p`), each with the box that the `instances` file gives its annotation.

    `refs` is the path of the pickle. A pickle that contains anything but lists, dicts, texts and numbers is refused,
    because it could run code.
    """
    file, table = existing(root, refs, "refs pickle"), existing(root, instances, "instances JSON")
    folder = existing(root, images, "image folder")

    def rows() -> Iterator[Row]:
        entries, (pictures, boxes) = _plain_pickle(file), _instances(table)
        for number, entry in enumerate(entries, start=1):
            yield from _expressions(f"{refs}:{number}", entry, pictures, boxes, question)

    return samples_of(rows(), _form(exif), folder, "refcoco")


def refcoco_table(
    *,
    path: str,
    root: Path,
    images: str | None = None,
    boxes: Coordinates = "xywh",
    question: str = QUESTION,
    exif: Exif = "applied",
) -> Items:
    """The phrases of RefCOCO as parquet on the Hugging Face hub, a file or a folder, each with its box.

    A row has `bbox`, its phrases in `sentences` or `answer`, and its picture in `image`, or the name of its picture in
    `image_path` or `file_name` below `images`. `boxes` says how boxes are written: some of these tables use `xyxy`, so
    look before you build.
    """
    place, files = parquet_files(root, path)
    for file in files:
        columns = set(pq.read_schema(file).names)
        if "bbox" not in columns or not columns & set(PHRASES) or not columns & set(PICTURES):
            needed = f"bbox, one of {', '.join(PHRASES)}, and one of {', '.join(PICTURES)}"
            raise InputError(f"{file} needs the columns {needed}; it has {', '.join(sorted(columns))}")
    folder = existing(root, images, "image folder") if images else place if place.is_dir() else place.parent
    tables = parquet_rows(files, root)
    rows = (phrase for row in tables for phrase in ([row] if row.error else _phrases(row, question)))
    return samples_of(rows, _form(exif, boxes), folder, "refcoco_table")


def visual_genome(
    *, regions: str, images: str, root: Path, question: str = QUESTION, extension: str = "jpg", exif: Exif = "applied"
) -> Items:
    """The phrases of a Visual Genome file `region_descriptions.json` (`regions`), read as a stream, each with its box.

    The picture of image 7 is `7.jpg` in the folder of images.
    """
    file, folder = existing(root, regions, "region descriptions"), existing(root, images, "image folder")

    def rows() -> Iterator[Row]:
        for entry in json_entries(file, regions):
            yield from [entry] if entry.error else _regions(entry, question, extension)

    return samples_of(rows(), _form(exif), folder, "visual_genome")


def os_atlas(
    *,
    annotations: str,
    images: str,
    root: Path,
    task: Literal["grounding", "point"] = "grounding",
    question: str = QUESTION,
) -> Items:
    """The elements of the screenshots of OS-Atlas or SeeClick, each with the box of what its instruction names.

    An entry has `img_filename`, and in `elements` or itself an `instruction` and a `bbox` of corners from 0 to 1. The
    task `point` asks for a point in that box.
    """
    file, folder = existing(root, annotations, "OS-Atlas file"), existing(root, images, "folder of screenshots")

    def rows() -> Iterator[Row]:
        found = False
        for entry in json_entries(file, annotations):
            found |= isinstance(entry.values, Mapping) and "img_filename" in entry.values
            yield from [entry] if entry.error else _elements(entry, question)
        if not found:
            raise InputError(
                f"{file} is no file of OS-Atlas: an array of screenshots, each with img_filename and elements"
            )

    return samples_of(rows(), Rows(task=task, space=CoordinateSpace.unit), folder, "os_atlas")


def _form(exif: Exif, boxes: Coordinates = "xywh") -> Rows:
    return Rows(task="grounding", boxes=boxes, space=CoordinateSpace.pixel, exif=exif)


class _Plain(pickle.Unpickler):
    """An unpickler of lists, dicts, texts and numbers; anything that needs an import is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, and a refs pickle holds plain values only")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to objects outside of it")


def _plain_pickle(file: Path) -> list[Any]:
    try:
        with file.open("rb") as content:
            value = _Plain(content, encoding="latin1").load()
    except Exception as error:  # on damaged bytes it raises nearly anything
        raise InputError(f"{file} is not a refs pickle: {type(error).__name__}: {error}") from None
    if not isinstance(value, list):
        raise InputError(f"{file} must hold a list of refs, it holds a {type(value).__name__}")
    return value


def _instances(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(image id -> file and declared size, annotation id -> xywh box); any JSON value may be an id."""
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    tables = [data.get(name) if isinstance(data, dict) else None for name in ("images", "annotations")]
    if not all(isinstance(table, list) and all(isinstance(entry, dict) for entry in table) for table in tables):
        raise InputError(f"{file} is not COCO instances JSON: it needs lists of objects under images and annotations")
    images, annotations = tables
    pictures = {repr(entry.get("id")): {"path": entry.get("file_name"), **_size(entry)} for entry in images or ()}
    return pictures, {repr(entry.get("id")): entry.get("bbox") for entry in annotations or ()}


def _expressions(
    where: str, entry: Any, pictures: Mapping[str, Any], boxes: Mapping[str, Any], question: str
) -> Iterator[Row]:
    entry = entry if isinstance(entry, dict) else {}
    plain = {key: entry[key] for key in REF if _is_plain(entry.get(key))}  # the rest may hold itself
    phrases = entry.get("sentences")
    if not isinstance(phrases, list) or not phrases or not {"image_id", "ann_id"} <= plain.keys():
        yield Row(where, plain, RowError("bad_row", "a ref needs ref_id, image_id, ann_id, split and sentences"))
        return
    picture, box = pictures.get(repr(plain["image_id"])), boxes.get(repr(plain["ann_id"]))
    if picture is None or box is None:
        missing = f"image {plain['image_id']!r}" if picture is None else f"annotation {plain['ann_id']!r}"
        yield Row(where, plain, RowError("unknown_image", f"instances.json has no {missing}"))
        return
    meta = {key: plain[key] for key in ("ref_id", "split") if key in plain}
    for number, sentence in enumerate(phrases, start=1):
        phrase = sentence.get("sent", sentence.get("raw")) if isinstance(sentence, Mapping) else None
        yield _phrase(f"{where}#{number}", phrase, picture, box, meta, question)


def _is_plain(value: Any) -> bool:
    """Whether it is a text, or a whole number of 64 bits; longer numbers can be too long to print."""
    return isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _phrases(row: Row, question: str) -> Iterator[Row]:
    """A row for each phrase of a row of the hub's tables."""
    values = row.values
    phrases = next((values[name] for name in PHRASES if values.get(name) is not None), None)
    picture = next((values[name] for name in PICTURES if values.get(name) is not None), None)
    phrases = phrases if isinstance(phrases, list) else [phrases]
    meta: dict[str, Any] = {name: values[name] for name in IDS if values.get(name) is not None}
    if own := own_licence(values):
        meta["licence"] = licence_of(own)
    if names := [name for column in PICTURES if isinstance(name := values.get(column), str) and name != picture]:
        meta[NAMES] = names
    if not phrases:
        yield row._replace(error=RowError("no_question", f"the row has no phrase under {' or '.join(PHRASES)}"))
    for number, sentence in enumerate(phrases, start=1):
        phrase = sentence.get("sent", sentence.get("raw")) if isinstance(sentence, Mapping) else sentence
        yield _phrase(f"{row.where}#{number}", phrase, picture, values["bbox"], meta, question)


def _regions(row: Row, question: str, extension: str) -> Iterator[Row]:
    regions = row.values.get("regions") if isinstance(row.values, Mapping) else None
    if not isinstance(regions, list):
        yield row._replace(error=RowError("bad_row", "an image needs an id and a list of regions"))
        return
    for number, region in enumerate(regions, start=1):
        where = f"{row.where}#{number}"
        if not isinstance(region, Mapping):
            yield Row(where, region, RowError("bad_row", f"a region is an object, got {region!r:.80}"))
            continue
        image, box = (
            row.values.get("id", region.get("image_id")),
            [region.get(k) for k in ("x", "y", "width", "height")],
        )
        meta = {"region_id": region["region_id"]} if isinstance(region.get("region_id"), int) else {}
        picture = {"path": f"{image}.{extension}", **_size(row.values)}
        yield _phrase(where, region.get("phrase"), picture, box, meta, question)


def _elements(row: Row, question: str) -> Iterator[Row]:
    values = row.values if isinstance(row.values, Mapping) else {}
    elements = values.get("elements", [values])
    if not isinstance(values.get("img_filename"), str) or not isinstance(elements, list):
        right = "an img_filename, and a list of elements or an instruction with its bbox"
        yield row._replace(error=RowError("bad_row", f"a screenshot of OS-Atlas has {right}"))
        return
    for number, element in enumerate(elements, start=1):
        where = f"{row.where}#{number}"
        box = element.get("bbox") if isinstance(element, Mapping) else None
        if not isinstance(box, list) or not all(isinstance(side, int | float) and 0 <= side <= 1 for side in box):
            yield Row(where, element, RowError("bad_box", f"bbox is four numbers from 0 to 1, got {box!r:.80}"))
            continue
        meta = {name: element[name] for name in ("data_type", "data_source") if isinstance(element.get(name), str)}
        yield _phrase(where, element.get("instruction"), values["img_filename"], box, meta, question)


def _size(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The size of a picture, as far as the source declares it."""
    return {name: entry[name] for name in ("width", "height") if name in entry}


def _phrase(where: str, phrase: Any, name: Any, box: Any, meta: Mapping[str, Any], question: str) -> Row:
    if not isinstance(phrase, str) or not phrase.strip():
        kind = type(phrase).__name__
        return Row(where, {"image": name}, RowError("no_question", f"a phrase is a text that is not blank, got {kind}"))
    asked = question.replace("{phrase}", phrase.strip().rstrip("."))
    return Row(where, {"image": name, "question": asked, "boxes": [box], "answer": {"boxes": [box]}, "meta": meta})
