"""Pascal VOC, YOLO and LVIS become samples of detection and grounding; what shows nothing is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_engine.engine.pipeline import run
from data_engine.operator import Quarantined
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from data_engine.sources.annotated.coco import coco, coco_captions
from data_engine.sources.annotated.pascal_voc import pascal_voc
from data_engine.sources.annotated.yolo import yolo
from data_engine.sources.folders import image_folder
from mmrl.core.config import InputError
from tests.support.rows import only_sample, reasons, sound

SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


def voc_object(name: str, *sides: float, difficult: int = 0) -> str:
    box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def voc_file(root: Path, name: str, *objects: str, picture: str = "a.png") -> None:
    (root / "Annotations").mkdir(exist_ok=True)
    whole = f"<annotation><filename>{picture}</filename>{SIZE}{''.join(objects)}</annotation>"
    (root / "Annotations" / name).write_text(whole)


def test_voc_boxes_count_pixels_from_one(root: Path) -> None:
    voc_file(root, "a.xml", voc_object("dog", 11, 6, 30, 40), voc_object("cat", 1, 1, 9, 9))
    sample = only_sample(pascal_voc(annotations="Annotations", images=".", root=root))
    assert sample.answer == {"boxes": [[10, 5, 30, 40], [0, 0, 9, 9]], "labels": ["dog", "cat"]}
    assert sample.prompt[0]["content"][1]["text"] == "Find every object of these categories: cat, dog."
    sample = only_sample(pascal_voc(annotations="Annotations", images=".", root=root, origin=0, categories=["dog"]))
    assert sample.answer == {"boxes": [[11, 6, 30, 40]], "labels": ["dog"]}


def test_voc_leaves_out_what_is_difficult_and_finds_its_picture_by_its_own_name(root: Path) -> None:
    voc_file(
        root, "a.xml", voc_object("dog", 11, 6, 30, 40), voc_object("dog", 1, 1, 9, 9, difficult=1), picture="old.jpg"
    )
    form = {"annotations": "Annotations", "images": ".", "root": root}
    sample = only_sample(pascal_voc(**form))
    assert (sample.answer["boxes"], sample.meta["crowds"]) == ([[10, 5, 30, 40]], ["dog"])
    assert reasons(pascal_voc(**form, task="grounding")) == ["no_object"]
    assert len(only_sample(pascal_voc(**form, difficult=True)).answer["boxes"]) == 2


def test_a_broken_voc_file_is_quarantined_and_the_next_is_read(root: Path) -> None:
    voc_file(root, "a.xml", voc_object("dog", 11, 6, 30, 40))
    voc_file(root, "b.xml", "<object><name>dog</name></object>")
    voc_file(root, "c.xml", voc_object("dog", 11, 6, 30, 40), picture="gone.png")
    (root / "Annotations" / "d.xml").write_text("<annotation>")
    (root / "Annotations" / "e.xml").write_text('<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>')
    items = list(pascal_voc(annotations="Annotations", images=".", root=root))
    assert reasons(items) == ["detection", "bad_box", "missing", "bad_xml", "bad_xml"]


def yolo_set(root: Path, labels: dict[str, str], **about: Any) -> str:
    for name, text in labels.items():
        for folder, suffix in (("images", "png"), ("labels", "txt")):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
            file = root / folder / "train" / f"{name}.{suffix}"
            file.write_bytes((root / "a.png").read_bytes()) if suffix == "png" else file.write_text(text)
    whole = {"path": ".", "train": "images/train", "names": ["cat", "dog"], **about}
    (root / "data.yaml").write_text(json.dumps(whole))
    return "data.yaml"


def test_yolo_boxes_and_polygons_are_shares_of_the_picture(root: Path) -> None:
    path = yolo_set(root, {"1": "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n", "2": "", "10": "0 .5 .5 1 1"})
    first, empty, last = yolo(path=path, root=root)
    assert isinstance(first, Sample)
    assert first.answer == {"boxes": [[40, 15, 60, 35], [10, 10, 30, 30]], "labels": ["dog", "cat"]}
    assert isinstance(empty, Quarantined)
    assert empty.reason == "no_object"
    assert isinstance(last, Sample)
    assert last.answer["boxes"] == [[0, 0, 100, 50]]
    _, nothing, _ = sound(yolo(path=path, root=root, empty=True))
    assert nothing.answer == {"boxes": [], "labels": []}


@pytest.mark.parametrize("about", [{"names": {0: "cat", 1: "dog"}}, {"path": None, "train": "../images/train"}])
def test_yolo_files_of_ultralytics_and_roboflow_are_found(root: Path, about: dict[str, Any]) -> None:
    names = {"names": "{0: cat, 1: dog}"} if "names" in about else {}
    path = yolo_set(root, {"1": "1 0.5 0.5 0.2 0.4"}, **({} if names else about))
    if names:
        (root / path).write_text("train: images/train\nnames: {0: cat, 1: dog}\n")
    assert only_sample(yolo(path=path, root=root)).answer["labels"] == ["dog"]


def test_a_broken_yolo_line_names_itself(root: Path) -> None:
    path = yolo_set(root, {"1": "2 .5 .5 .1 .1", "2": "0 .5 .5 .1", "3": "dog .5 .5 .1 .1"})
    assert reasons(yolo(path=path, root=root)) == ["unknown_category", "bad_box", "bad_box"]
    with pytest.raises(InputError, match="no split val"):
        yolo(path=path, root=root, split="val")
    (root / "data.yaml").write_text("train: images/train\n")
    with pytest.raises(InputError, match="needs names"):
        yolo(path=path, root=root)


def coco_file(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], **more: Any) -> str:
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "bus"}]
    whole = {"images": images, "annotations": annotations, "categories": categories, **more}
    (root / "c.json").write_text(json.dumps(whole))
    return "c.json"


DOG = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 5, 20, 30]}


def test_lvis_asks_only_for_what_was_looked_for(root: Path) -> None:
    (root / "val2017").mkdir()
    (root / "a.png").rename(root / "val2017" / "7.png")
    image = {"id": 7, "coco_url": "http://images.cocodataset.org/val2017/7.png", "width": 100, "height": 50}
    lists = {"neg_category_ids": [2], "not_exhaustive_category_ids": [3]}
    path = coco_file(root, [{**image, **lists}], [DOG, {**DOG, "id": 2, "category_id": 3}])
    sample = only_sample(coco(annotations=path, images=".", root=root))
    assert sample.answer == {"boxes": [[10, 5, 30, 35]], "labels": ["dog"]}
    assert sample.prompt[0]["content"][1]["text"] == "Find every object of these categories: cat, dog."


def test_images_of_one_id_are_not_mixed_up(root: Path) -> None:
    Image.new("RGB", (100, 50)).save(root / "b.png")
    path = coco_file(root, [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}], [DOG])
    for source in (coco, coco_captions):
        assert reasons(source(annotations=path, images=".", root=root)) == ["duplicate_image"] * 2
    path = coco_file(root, [{"id": 7, "file_name": "a.png"}] * 2, [DOG])
    assert reasons(coco(annotations=path, images=".", root=root)) == ["detection", "duplicate_image"]


def test_categories_of_one_name_are_refused_where_both_are_used(root: Path) -> None:
    image, twice = [{"id": 7, "file_name": "a.png"}], [{"id": 1, "name": "bat"}, {"id": 2, "name": "bat"}]
    path = coco_file(root, image, [DOG], categories=twice)
    assert only_sample(coco(annotations=path, images=".", root=root)).answer["labels"] == ["bat"]
    path = coco_file(root, image, [DOG, {**DOG, "category_id": 2}], categories=twice)
    with pytest.raises(InputError, match=r"categories 1, 2 are all called 'bat'"):
        list(coco(annotations=path, images=".", root=root))


def test_images_without_objects_are_counted_and_licences_kept(root: Path) -> None:
    licences = [{"id": 1, "name": "NC", "url": "http://creativecommons.org/licenses/by-nc-sa/2.0/"}]
    images = [{"id": 7, "file_name": "a.png", "license": 1}, {"id": 8, "file_name": "a.png"}]
    coco_file(root, images, [DOG], licenses=licences)
    source = {"fn": "coco", "args": {"annotations": "c.json", "images": "."}, "licence": "mit"}
    counts = run(Recipe.model_validate({"root": root, "sources": [source]}), out=root / "out")
    assert (counts.read["coco"], counts.kept["coco"], dict(counts.dropped)) == (2, 1, {"coco: no_object": 1})
    assert "license: cc-by-nc-sa-2.0" in (root / "out" / "card.md").read_text()
    source["args"] = {**source["args"], "empty": True}
    counts = run(Recipe.model_validate({"root": root, "sources": [source]}), out=root / "out")
    assert counts.kept["coco"] == 2


def test_a_tree_of_annotations_is_no_folder_of_classes(root: Path) -> None:
    for folder in ("tree/Annotations", "tree/JPEGImages", "photos/cat", "photos/dog", "photos/notes"):
        (root / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="use the source pascal_voc"):
        image_folder(path="tree", root=root)
    for name in ("cat", "dog"):
        (root / "photos" / name / "1.png").write_bytes((root / "a.png").read_bytes())
    (root / "photos" / "notes" / "1.txt").write_text("nothing")
    items = [item for item in image_folder(path="photos", root=root) if isinstance(item, Sample)]
    assert {option for item in items for option in item.answer["options"]} == {"cat", "dog"}
