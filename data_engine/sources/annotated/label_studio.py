"""Label Studio: the JSON export of a project, with boxes, choices or texts for each picture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, object_samples
from data_engine.sources.base import Items, RowError, existing, existing_file, quarantined
from data_engine.sources.golds import check_task
from data_engine.sources.json_lines import json_entries
from data_engine.sources.row_format import Exif, Row, Rows, samples_of
from data_engine.sources.row_media import IMAGES
from mmrl.core.config import InputError, nearest
from mmrl.core.vision import CoordinateSpace

LABELS = {name: name for name in ("rectanglelabels", "polygonlabels", "labels")}  # type of a result -> key of its label
BARE = ("rectangle", "polygon")  # a box without its label, which is a result of its own, of type labels
ANSWERS = {"choices": "choices", "textarea": "text", "number": "number", "rating": "rating"}  # the same of its answer
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file


def label_studio(
    *,
    path: str,
    images: str,
    root: Path,
    task: str = "detection",
    control: str | None = None,
    categories: list[str] | None = None,
    question: str | None = None,
    exif: Exif = "applied",
    empty: bool = False,
) -> Items:
    """The pictures of a Label Studio project, exported as JSON: detection and grounding as by `coco`, or an answer.

    Boxes come from rectangles and polygons. For any other task the gold is what was chosen, written, counted or rated;
    the options of a choice are `categories`, by default all that were ever chosen, and the question is `question`, or
    the one among a picture's data. `control` is the name of the control that counts, if several of the kind were used.
    Of several annotations of a picture the one marked as ground truth counts.
    """
    file, folder = existing_file(root, path, "export of Label Studio"), existing(root, images, "image folder")
    boxed: Task | None = task if task == "detection" or task == "grounding" else None
    kinds = LABELS if boxed else ANSWERS
    if not boxed:
        check_task(task)

    def samples() -> Items:
        names = _labels(file, path, kinds, control)
        wanted = categories or sorted(names)
        if unknown := [name for name in categories or () if name not in names]:
            raise InputError(f"{file} has no label {unknown[0]!r}; {nearest(unknown[0], names)}")
        rows = json_entries(file, path)
        if not boxed:
            options = {"options": wanted} if task == "choice" else {}
            answered = (_answered(row, folder, control, question, options) for row in rows)
            form = Rows(task=task, answer="text" if options else None, list_options=bool(options), exif=exif)
            yield from samples_of(answered, form, folder, "label_studio")
            return
        unit = CoordinateSpace.unit
        asked = Asked(source="label_studio", task=boxed, question=question, space=unit, exif=exif, empty=empty)
        for row in rows:
            try:
                entry = _annotated(row, folder, control, wanted)
            except RowError as error:
                yield quarantined(error, "label_studio", row.where, row.values)
            else:
                yield from object_samples(entry, folder, asked)

    return samples()


def _labels(file: Path, path: str, kinds: Mapping[str, str], control: str | None) -> set[str]:
    """The labels or answers of the results of these kinds; InputError if it is another file, or of several controls."""
    controls, labels, any_task = set[str](), set[str](), False
    for row in json_entries(file, path):
        if not isinstance(row.values, Mapping) or not isinstance(row.values.get("annotations"), list):
            continue
        any_task = True
        for result in (one for annotation in row.values["annotations"] for one in _results(annotation)):
            kind, value = str(result.get("type")), result.get("value", {})
            if kind in kinds and control in (None, result.get("from_name")) and (kinds is LABELS or "x" not in value):
                controls.add(str(result.get("from_name")))
                said = value.get(kinds[kind])
                labels |= set(map(str, said)) if isinstance(said, list) else set()
    if not any_task:
        raise InputError(f"{file} is no export of Label Studio as JSON (not JSON-MIN): its entries need annotations")
    if not controls:
        named = f" by the control {control!r}" if control else ""
        raise InputError(f"{file} has no result{named} of the kinds {', '.join(kinds)}")
    if len(controls) > 1:
        raise InputError(
            f"{file} has results of the controls {', '.join(sorted(controls))}; set control to one of them"
        )
    return labels


def _results(annotation: Any) -> list[Any]:
    results = annotation.get("result") if isinstance(annotation, Mapping) else None
    results = results if isinstance(results, list) else []
    return [one for one in results if isinstance(one, Mapping) and isinstance(one.get("value", {}), Mapping)]


def _annotation(row: Row) -> tuple[str, list[Any]]:
    """(the picture as the task names it, the results of the annotation that counts)."""
    if row.error:
        raise row.error
    values = row.values if isinstance(row.values, Mapping) else {}
    data, given = values.get("data"), values.get("annotations")
    if not isinstance(data, Mapping) or not isinstance(given, list):
        raise RowError("bad_row", "an entry of Label Studio has data and annotations")
    pictures = [text for text in data.values() if isinstance(text, str) and _suffix(text) in IMAGES]
    if len(pictures) != 1:
        raise RowError("bad_media", f"the data of an entry name one picture, got {pictures!r:.120}")
    made = [one for one in given if isinstance(one, Mapping) and not one.get("was_cancelled")]
    marked = [one for one in made if one.get("ground_truth")] or made
    if not marked:
        raise RowError("no_answer", "nobody has annotated this picture")
    if len(marked) > 1:
        raise RowError("several_annotations", f"{len(marked)} annotations; mark one of them as ground truth")
    return pictures[0], _results(marked[0])


def _annotated(row: Row, folder: Path, control: str | None, wanted: list[str]) -> Annotated:
    named, results = _annotation(row)
    objects, size = list[tuple[str, Box]](), (None, None)
    for result in results:
        kind, value = str(result.get("type")), result.get("value", {})
        if kind in ANSWERS or kind in BARE or control not in (None, result.get("from_name")):
            continue
        labels = value.get(LABELS.get(kind, ""))
        if not isinstance(labels, list) or not labels:
            raise RowError("bad_box", f"a result of type {kind} is no box with a label; read are {', '.join(LABELS)}")
        if value.get("rotation") or result.get("image_rotation"):
            raise RowError("bad_box", f"a box or its picture is rotated ({labels}); boxes here are upright")
        box = _box(value)
        objects += [(str(label), box) for label in labels]
        size = (result.get("original_width"), result.get("original_height"))
    return Annotated(where=row.where, file=_file(named, folder), categories=wanted, objects=objects, size=size)


def _box(value: Mapping[str, Any]) -> Box:
    """The corners in the unit square of a rectangle or of the hull of a polygon, both in percent."""
    try:
        if "points" in value:
            xs, ys = zip(*value["points"], strict=True)
            return [min(xs) / 100, min(ys) / 100, max(xs) / 100, max(ys) / 100]
        x, y, width, height = (value[name] / 100 for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        raise RowError("bad_box", f"a box has x, y, width and height in percent, got {dict(value)!r:.120}") from None
    return [x, y, x + width, y + height]


def _answered(row: Row, folder: Path, control: str | None, question: str | None, options: dict[str, Any]) -> Row:
    """The row of a picture with what was chosen or written about it as a whole."""
    try:
        named, results = _annotation(row)
        whole = [
            (str(one.get("type")), one.get("value", {})) for one in results if control in (None, one.get("from_name"))
        ]
        said = [value.get(ANSWERS[kind]) for kind, value in whole if kind in ANSWERS and "x" not in value]
        if len(said) != 1 or said[0] in (None, []):
            raise RowError("no_answer", f"a picture needs one answer about it as a whole, got {said!r:.120}")
        answer = said[0][0] if isinstance(said[0], list) and len(said[0]) == 1 else said[0]
        if options and isinstance(answer, list):
            raise RowError("bad_answer", f"several options were chosen, {answer!r:.120}; a choice has one")
    except RowError as error:
        return row._replace(error=error)
    asked = row.values["data"].get("question")
    asked = {"question": asked if isinstance(asked, str) else question}
    return Row(row.where, {"image": _file(named, folder), **asked, "answer": answer, **options})


def _suffix(named: str) -> str:
    return PurePath(_path(named)).suffix.lower()[1:]


def _path(named: str) -> str:
    """The path in an address: of an uploaded file, of local storage (`/data/local-files/?d=`), of a bucket."""
    return unquote(named.partition("?d=")[2] or urlsplit(named).path).lstrip("/")


def _file(named: str, folder: Path) -> str:
    """The picture below `folder`: as much of the end of its address as there is, or its name before it was uploaded."""
    parts = _path(named).split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    own = [*tails, UPLOADED.sub("", parts[-1], count=1)]
    return next((name for name in own if (folder / name).is_file()), parts[-1])
