"""Open Images, VisDrone and Label Studio become samples; what a file says in another way is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_engine.operator import Quarantined
from data_engine.sources.annotated.label_studio import label_studio
from data_engine.sources.annotated.open_images import open_images
from data_engine.sources.annotated.visdrone import visdrone
from mmrl.core.config import InputError
from tests.support.rows import only_sample, reasons, sound

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
FILES: dict[str, Any] = {"annotations": "boxes.csv", "classes": "classes.csv", "images": ".", "extension": "png"}


def boxes_csv(root: Path, *lines: str, head: str = HEAD) -> None:
    (root / "boxes.csv").write_text("\n".join([head, *lines]) + "\n")
    (root / "classes.csv").write_text('/m/01,Dog\n/m/02,"Hot dog, large"\n/m/03,Bat\n/m/04,Bat\n')


def line(image: str, label: str, *sides: Any, group: int = 0) -> str:
    """A line of Open Images; its sides are XMin, XMax, YMin, YMax."""
    return ",".join(map(str, [image, "xclick", label, 1, *sides, 0, 0, group, 0, 0]))


def test_open_images_asks_for_what_a_picture_shows(root: Path) -> None:
    boxes_csv(root, line("a", "/m/01", 0.1, 0.5, 0.2, 0.6), line("a", "/m/02", 0, 1, 0, 1, group=1))
    sample = only_sample(open_images(**FILES, root=root))
    assert sample.answer == {"boxes": [[10, 10, 50, 30]], "labels": ["Dog"]}
    assert sample.prompt[0]["content"][1]["text"] == "Find every object of these categories: Dog."
    assert reasons(open_images(**FILES, root=root, categories=["Hot dog, large"])) == ["no_object"]
    assert only_sample(open_images(**FILES, root=root, task="grounding")).answer == {"boxes": [[10, 10, 50, 30]]}


def test_a_picture_of_open_images_is_whole_or_refused(root: Path) -> None:
    good = line("a", "/m/01", 0.1, 0.5, 0.2, 0.6)
    odd = [
        line("b", "/m/09", 0, 1, 0, 1),
        line("c", "/m/03", 0, 1, 0, 1),
        line("d", "/m/01", 0, "x", 0, 1),
        "e,too,short",
    ]
    boxes_csv(root, good, *odd, line("a", "/m/01", 0, 1, 0, 1))
    expected = ["detection", "unknown_category", "unknown_category", "bad_box", "bad_row", "duplicate_image"]
    assert reasons(open_images(**FILES, root=root)) == expected
    boxes_csv(root, "a,1", head="image,label")
    with pytest.raises(InputError, match="has no column ImageID, LabelName, XMin"):
        open_images(**FILES, root=root)
    boxes_csv(root, good)
    with pytest.raises(InputError, match="no category 'Dgo'; did you mean Dog"):
        open_images(**FILES, root=root, categories=["Dgo"])
    (root / "classes.csv").write_text("Dog\n")
    with pytest.raises(InputError, match="two columns"):
        open_images(**FILES, root=root)


def drone(root: Path, *lines: str) -> dict[str, Any]:
    (root / "boxes").mkdir(exist_ok=True)
    (root / "boxes" / "a.txt").write_text("\n".join(lines) + "\n")
    return {"annotations": "boxes", "images": ".", "root": root}


def test_visdrone_leaves_out_what_does_not_count(root: Path) -> None:
    files = drone(root, "10,5,20,30,1,4,0,0", "40,5,10,10,1,4,0,1,", "60,5,10,10,1,9,0,0", "1,1,5,5,0,1,0,0")
    sample = only_sample(visdrone(**files))
    assert sample.answer["boxes"] == [[10, 5, 30, 35], [40, 5, 50, 15], [60, 5, 70, 15]]
    assert (sample.answer["labels"], sample.meta["crowds"]) == (["car", "car", "bus"], ["pedestrian"])
    assert only_sample(visdrone(**files, task="grounding")).answer == {"boxes": [[60, 5, 70, 15]]}
    drone(root, "60,5,10,10,1,9,0,0", "0,0,50,50,0,0,0,0")
    assert reasons(visdrone(**files, task="grounding")) == ["no_object"], "a region was ignored: buses may be in it"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("1,2,3,4,1,12,0,0", "the category is 0 to 11, got 12"),
        ("1 2 3 4", "a line is LEFT,TOP"),
        ("1,7,1,2,3,4,1,4,0,0", "belong to the videos of VisDrone"),
    ],
)
def test_a_line_that_is_none_of_visdrone_is_told(root: Path, written: str, why: str) -> None:
    (item,) = visdrone(**drone(root, written))
    assert isinstance(item, Quarantined)
    assert why in item.why


def studio(root: Path, *tasks: dict[str, Any]) -> dict[str, Any]:
    (root / "studio.json").write_text(json.dumps(tasks))
    return {"path": "studio.json", "images": ".", "root": root}


def entry(*results: dict[str, Any], picture: str = "/data/upload/3/0a1b2c3d-a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": picture, **more}, "annotations": [{"id": 1, "result": list(results)}]}


def result(kind: str, control: str = "label", **value: Any) -> dict[str, Any]:
    shown = {"original_width": 100, "original_height": 50, "image_rotation": 0}
    return {"type": kind, "from_name": control, "to_name": "image", "value": value, **shown}


DOG = result("rectanglelabels", x=10, y=20, width=30, height=40, rotation=0, rectanglelabels=["dog"])


def test_rectangles_and_polygons_of_label_studio_are_in_percent(root: Path) -> None:
    cat = result("polygonlabels", points=[[50, 10], [60, 30], [55, 90]], closed=True, polygonlabels=["cat"])
    sample = only_sample(label_studio(**studio(root, entry(DOG, cat))))
    assert sample.answer == {"boxes": [[10, 10, 40, 30], [50, 5, 60, 45]], "labels": ["dog", "cat"]}
    files = studio(root, entry(DOG), entry(picture="/data/local-files/?d=my%20set/a.png"))
    assert reasons(label_studio(**files)) == ["detection", "no_object"]
    assert [one.answer["labels"] for one in sound(label_studio(**files, empty=True))] == [["dog"], []]
    assert only_sample(label_studio(**studio(root, entry(DOG)), task="grounding")).answer == {
        "boxes": [[10, 10, 40, 30]]
    }


def test_a_region_of_label_studio_without_its_box_is_no_box_less(root: Path) -> None:
    sides: dict[str, Any] = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    apart = [result("rectangle", "box", **sides), result("labels", **sides, labels=["dog"])]
    assert only_sample(label_studio(**studio(root, entry(*apart)))).answer["boxes"] == [[10, 10, 40, 30]]
    turned = result("rectanglelabels", **{**sides, "rotation": 30}, rectanglelabels=["dog"])
    brush = result("brushlabels", format="rle", rle=[1, 2], brushlabels=["dog"])
    bare = result("rectanglelabels", **sides)
    large = {**DOG, "original_width": 200}
    items = label_studio(**studio(root, *(entry(DOG, odd) for odd in (turned, brush, bare)), entry(large)))
    assert reasons(items) == ["bad_box", "bad_box", "bad_box", "size_mismatch"]


def test_choices_and_texts_of_label_studio_are_answers(root: Path) -> None:
    day, night = (result("choices", "light", choices=[name]) for name in ("day", "night"))
    read = result("textarea", "sign", text=["EXIT"])
    files = studio(root, entry(day, read, DOG), entry(night, read))
    first, _ = sound(label_studio(**files, task="choice", control="light", question="What light?"))
    assert first.answer == {"choice": "A", "options": ["day", "night"]}
    assert first.prompt[0]["content"][1]["text"] == "What light?\nA. day\nB. night"
    first, _ = sound(label_studio(**files, task="ocr", control="sign", question="What does it say?"))
    assert first.answer == {"text": ["EXIT"]}
    with pytest.raises(InputError, match="the controls light, sign; set control"):
        list(label_studio(**files, task="choice", question="What light?"))
    files = studio(root, entry(result("choices", "light", choices=["day", "night"])), entry(day, question="Light?"))
    assert reasons(label_studio(**files, task="choice")) == ["bad_answer", "choice"]


def test_an_entry_of_label_studio_has_one_annotation_that_counts(root: Path) -> None:
    two = {**entry(DOG), "annotations": [{"result": [DOG]}, {"result": []}]}
    marked = {**two, "annotations": [{"result": [DOG], "ground_truth": True}, {"result": []}]}
    cancelled = {**two, "annotations": [{"result": [DOG], "was_cancelled": True}]}
    expected = ["several_annotations", "detection", "no_answer"]
    assert reasons(label_studio(**studio(root, two, marked, cancelled))) == expected
    with pytest.raises(InputError, match=r"no export of Label Studio as JSON \(not JSON-MIN\)"):
        list(label_studio(**studio(root, {"image": "a.png", "label": [{"x": 1}]})))
