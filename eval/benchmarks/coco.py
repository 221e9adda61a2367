"""The images of COCO's JSON files as rows: boxes and names from instances, texts from captions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Row
from eval.benchmarks.files import rows_of
from mmrl.core.config import InputError


def coco_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """The images of all COCO files; if another file lists some of them (`image_id`), those alone.

    Columns: image_id, image, references, objects, boxes (xyxy pixels), labels, areas, crowd, categories. Rows of other
    files may have them too, and then take precedence.
    """
    described: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for file in files:
        content = _coco(file)
        if content is None:
            rows += rows_of([file], ("image_id",))
        else:
            for key, row in _described(content).items():
                described[key] = {**row, **described.get(key, {}), **{k: v for k, v in row.items() if v}}
    for row in rows or described.values():
        whole = {**described.get(str(row["image_id"]), {}), **row}
        if missing := [name for name in columns if name not in whole]:
            raise InputError(f"image {row['image_id']} has no {', '.join(missing)}; it has {', '.join(whole)}")
        yield whole


def _coco(file: Path) -> dict[str, Any] | None:
    """The content of a COCO file, None for other files."""
    if file.suffix != ".json":
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    there = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))
    return content if there else None


def _is_seen(box: list[float], image: dict[str, Any]) -> bool:
    """Whether something of a box [x, y, width, height] lies in an image, as far as the file declares its size."""
    x, y, width, height = box
    across, down = image.get("width") or float("inf"), image.get("height") or float("inf")
    return x < across and y < down and x + width > 0 and y + height > 0


def _described(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = {category["id"]: str(category["name"]) for category in content.get("categories", ())}
    per_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        per_image[annotation["image_id"]].append(annotation)
    rows = {}
    for image in content["images"]:
        annotations = [each for each in per_image.get(image["id"], []) if not names or _is_seen(each["bbox"], image)]
        row: dict[str, Any] = {"image_id": image["id"], "image": image["file_name"]}
        if names:
            boxes = [[float(value) for value in annotation["bbox"]] for annotation in annotations]
            labels = [names[annotation["category_id"]] for annotation in annotations]
            sizes = [w * h for _, _, w, h in boxes]
            row |= {
                "boxes": [[x, y, x + w, y + h] for x, y, w, h in boxes],
                "labels": labels,
                "areas": [float(a.get("area") or size) for a, size in zip(annotations, sizes, strict=True)],
                "crowd": [bool(annotation.get("iscrowd")) for annotation in annotations],
                "objects": sorted({*labels}),
                "categories": list(names.values()),
            }
        else:
            row["references"] = [str(annotation["caption"]) for annotation in annotations]
        rows[str(image["id"])] = row
    return rows
