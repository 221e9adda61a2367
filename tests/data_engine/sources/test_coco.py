"""COCO annotations become samples of detection and grounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_engine.operator import Quarantined
from data_engine.ops.validate import validate
from data_engine.schema import Sample
from data_engine.sources.annotated.coco import coco
from mmrl.core.config import InputError
from tests.support.rows import HEIGHT, WIDTH, only_sample, read_rows, reasons


def write_coco(folder: Path, annotations: list[dict], **image: Any) -> str:
    entry = {"id": 7, "file_name": "china.jpg", "width": WIDTH, "height": HEIGHT, **image}
    data = {"images": [entry], "categories": [{"id": 1, "name": "roof"}, {"id": 2, "name": "tree"}]}
    (folder / "instances.json").write_text(json.dumps({**data, "annotations": annotations}))
    return "instances.json"


ROOF = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [100, 50, 200, 100], "segmentation": [[1, 2, 3]]}
TREES = [{"id": n, "image_id": 7, "category_id": 2, "bbox": [10 * n, 300, 20, 40]} for n in (2, 3)]


def test_coco_boxes_become_corners(photos: Path) -> None:
    file = write_coco(photos, [ROOF, *TREES])
    sample = only_sample(coco(annotations=file, images=".", root=photos))
    assert sample.answer["labels"] == ["roof", "tree", "tree"]
    assert sample.answer["boxes"][0] == [100, 50, 300, 150]
    assert sample.prompt[0]["content"][1]["text"] == "Find every object of these categories: roof, tree."


def test_coco_grounding_asks_only_for_what_occurs_once(photos: Path) -> None:
    file = write_coco(photos, [ROOF, *TREES])
    sample = only_sample(coco(annotations=file, images=".", root=photos, task="grounding"))
    assert sample.prompt[0]["content"][1]["text"] == "Locate the roof."
    assert sample.answer == {"boxes": [[100, 50, 300, 150]]}


def test_annotations_without_area_are_left_out(photos: Path) -> None:
    flat = [{**TREES[0], "bbox": [5, 9, 20, 0]}, {**TREES[1], "category_id": 1, "bbox": [5, 9, 0, 3]}]
    file = write_coco(photos, [ROOF, TREES[0], flat[0]])
    sample = only_sample(coco(annotations=file, images=".", root=photos))
    assert sample.answer["labels"] == ["roof", "tree"]
    assert sample.meta["no_area"] == ["tree"]
    assert isinstance(validate(sample), Sample)
    sample = only_sample(coco(annotations=write_coco(photos, [*flat, TREES[1]]), images=".", root=photos))
    assert sample.meta["no_area"] == ["roof", "tree"]
    file = write_coco(photos, [ROOF, flat[1]])
    assert reasons(coco(annotations=file, images=".", root=photos, task="grounding")) == ["no_object"]


def test_boxes_of_a_declared_format_are_not_guessed_at(photos: Path) -> None:
    file = write_coco(photos, [{**ROOF, "bbox": [100, 50, -20, 100]}])
    (sample,) = coco(annotations=file, images=".", root=photos)
    row = {"question": "?", "image": "china.jpg", "boxes": [100, 50, -20, 100]}
    declared = read_rows(photos, [row], task="grounding", boxes="xywh")
    for item in (sample, *declared):
        assert isinstance(item, Sample)
        outcome = validate(item, modes={"box_xywh": "fix"})
        assert isinstance(outcome, Quarantined)
        assert outcome.reason == "box_order"


def test_a_crowd_is_not_a_single_object(photos: Path) -> None:
    file = write_coco(photos, [ROOF, {**TREES[0], "category_id": 1, "iscrowd": 1}])
    assert reasons(coco(annotations=file, images=".", root=photos, task="grounding")) == ["no_object"]


@pytest.mark.parametrize(
    ("annotation", "image", "reason"),
    [
        ({"category_id": 3}, {}, "unknown_category"),
        ({"bbox": [1, 2, 3]}, {}, "bad_box"),
        ({"image_id": 8}, {}, "unknown_image"),
        ({}, {"file_name": "nowhere.jpg"}, "missing"),
        ({}, {"width": HEIGHT, "height": WIDTH}, "size_mismatch"),
    ],
)
def test_a_bad_coco_entry_is_quarantined(photos: Path, annotation: dict, image: dict, reason: str) -> None:
    items = list(coco(annotations=write_coco(photos, [{**ROOF, **annotation}], **image), images=".", root=photos))
    assert reasons(items) == (["no_object", reason] if reason == "unknown_image" else [reason])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_coco_boxes_on_stored_pixels_follow_the_exif_rotation(photos: Path, orientation: int) -> None:
    stored = np.zeros((60, 100, 3), np.uint8)
    stored[10:20, 30:70] = 255  # a white box, and the gold says where it is in the stored pixels
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(photos / "turned.png", exif=exif)
    file = write_coco(photos, [{**ROOF, "bbox": [30, 10, 40, 10]}], file_name="turned.png", width=100, height=60)
    sample = only_sample(coco(annotations=file, images=".", root=photos, exif="ignored"))

    from PIL import ImageOps

    pixels = np.asarray(ImageOps.exif_transpose(Image.open(photos / "turned.png")))
    rows, columns = np.nonzero(pixels[..., 0])
    assert sample.answer["boxes"] == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"images": [], "annotations": [3], "categories": []}'])
def test_a_file_that_is_not_a_coco_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InputError, match=r"other.json is not"):
        list(coco(annotations="other.json", images=".", root=tmp_path))


def test_coco_names_the_nearest_category(photos: Path) -> None:
    with pytest.raises(InputError, match="did you mean tree"):
        list(coco(annotations=write_coco(photos, []), images=".", root=photos, categories=["trea"]))
