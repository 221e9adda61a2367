"""Messages of ms-swift: places in `objects` fill the placeholders of the texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.conversations import asked_of, kept, made, rows_in, shown, turns_of
from data_engine.sources.golds import check_task
from data_engine.sources.row_format import Exif, Rows, samples_of
from mmrl.core.vision import CoordinateSpace

PLACEHOLDER = re.compile(r"<(ref-object|bbox)>")


def ms_swift(
    *, path: str, root: Path, task: str = "open", media_root: str | None = None, exif: Exif = "applied"
) -> Items:
    """The rows of an ms-swift file, of SFT, or of GRPO with the gold in `solution`: JSON lines, JSON or parquet.

    If the last answer contains `<bbox>`, the boxes in `objects` are the gold. With one `<ref-object>` for each of them
    in that answer the task is detection, else grounding; rows without boxes have their own `task`, or the task `task`.
    Boxes of two numbers are points. `bbox_type: norm1` means boxes from 0 to 1, else they are pixels.
    """
    check_task(task)
    folder, rows = rows_in(path, root, "ms-swift file")
    folder = existing(root, media_root, "media_root") if media_root else folder

    def samples() -> Items:
        for row in rows:
            converted = made(row, lambda values: with_objects(values, task))
            objects = row.values.get("objects") if isinstance(row.values, Mapping) else None
            unit = isinstance(objects, Mapping) and objects.get("bbox_type") == "norm1"
            space = CoordinateSpace.unit if unit else CoordinateSpace.pixel
            yield from samples_of([converted], Rows(task=task, space=space, exif=exif), folder, "ms_swift")

    return samples()


def with_objects(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The columns of our format for an ms-swift row; its placeholders are replaced in order by what `objects` holds."""
    turns = turns_of(row)
    objects = row.get("objects") or {}
    given = {name: objects.get(name, []) for name in ("ref", "bbox")} if isinstance(objects, Mapping) else {}
    if not given or not all(isinstance(entries, list) for entries in given.values()):
        raise RowError("bad_objects", f"objects hold a list under ref and one under bbox, got {objects!r:.120}")
    if any(objects.get("image_id") or ()):
        raise RowError("bad_objects", "boxes of another image than the first; give each image a row of its own")
    left = {"ref-object": list(given["ref"]), "bbox": list(given["bbox"])}
    asked = [(role, PLACEHOLDER.sub(lambda hit: str(_taken(left, hit[1])), text)) for role, text in turns[:-1]]
    role, last = turns[-1]
    golds = {kind: [_taken(left, kind) for name in PLACEHOLDER.findall(last) if name == kind] for kind in left}
    if left["bbox"]:
        raise RowError("bad_objects", f"the text has no <bbox> for {left['bbox'][0]!r:.80} of objects")
    if role != "assistant" or not PLACEHOLDER.search(last) or isinstance(row.get("answer"), Mapping):
        return asked_of(row, [*asked, turns[-1]], task, "last")
    prompt, media = shown(row, asked)
    columns = {"prompt": prompt, "media": media, **kept(row)}
    boxes, labels = golds["bbox"], golds["ref-object"]
    if boxes and all(isinstance(box, list) and len(box) == 2 for box in boxes):
        return {**columns, "task": "point", "points": boxes}
    if len(labels) == len(boxes):
        return {**columns, "task": "detection", "boxes": boxes, "labels": labels}
    return {**columns, "task": "grounding", "boxes": boxes}


def _taken(left: dict[str, list[Any]], kind: str) -> Any:
    if not left[kind]:
        raise RowError("bad_objects", f"the text has more <{kind}> than objects hold")
    return left[kind].pop(0)
