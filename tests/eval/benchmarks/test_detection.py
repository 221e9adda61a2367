"""Detection scores against pycocotools."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_engine.schema import Sample
from eval.benchmarks.published.detection import NUMBERS, coco_numbers
from mmrl.core.config import InputError
from tests.support.benchmarks.answers import answered, benchmark, gold, numbers
from tests.support.benchmarks.description_rows import INSTANCES, ODINW
from tests.support.benchmarks.fixture import cell, png


def coco_stats(golds: list[dict[str, Any]], boxes: list[dict[str, Any]], images: int, names: list[str]) -> np.ndarray:
    """COCO's twelve numbers straight from pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: Any = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{**gold, "id": i} for i, gold in enumerate(golds, 1)],
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_detection_agrees_with_pycocotools_on_random_pictures(tmp_path: Path) -> None:
    draw, names, size = random.Random(1), ["cat", "dog"], 300

    def box() -> list[float]:
        x, y = draw.randint(0, size - 60), draw.randint(0, size - 60)
        return [float(x), float(y), float(draw.choice([8, 40, 55]) + x), float(draw.choice([8, 40, 55]) + y)]

    images, golds, boxes, replies = 6, [], [], {}
    for image in range(images):
        predicted = []
        for _ in range(4):
            corners, label = box(), draw.randrange(2)
            golds.append({"image_id": image, "category_id": label, "bbox": xywh(corners), "area": area(corners),
                          "iscrowd": int(draw.random() < 0.2)})  # fmt: skip
            if draw.random() < 0.8:
                near = [value + draw.randint(-3, 3) for value in corners]
                predicted.append((near if near[2] > near[0] and near[3] > near[1] else corners, label))
        predicted += [(box(), draw.randrange(2)) for _ in range(2)]
        predicted = [([min(max(v, 0.0), float(size)) for v in corners], label) for corners, label in predicted]
        boxes += [{"image_id": image, "category_id": label, "bbox": xywh(c), "score": 1.0} for c, label in predicted]
        replies[str(image)] = json.dumps([{"bbox_2d": c, "label": names[label].upper()} for c, label in predicted])
    instances = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(images)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{**gold, "id": i} for i, gold in enumerate(golds)],
    }
    made = benchmark("coco_detection", tmp_path, {"instances_val2017.json": instances})
    for i in range(images):
        (tmp_path / "rows" / f"{i}.png").write_bytes(png(i, (size, size)))
    samples = made.load()
    records = answered("coco_detection", samples, lambda s: replies[s.meta["item"]])
    ours = coco_numbers(records)
    assert [ours[name] for name in NUMBERS] == pytest.approx(coco_stats(golds, boxes, images, names).tolist())
    assert 0.05 < (ours["AP"] or 0) < 0.95


def xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def test_the_order_of_a_response_decides_ties_and_scores_can_be_said(tmp_path: Path) -> None:
    samples = [s for s in benchmark("coco_detection", tmp_path).load() if s.meta["item"] == "1"]
    right, wrong = ({"bbox_2d": box, "label": " Dog "} for box in ([4, 4, 44, 44], [0, 0, 3, 3]))

    def ap(*predictions: dict[str, Any]) -> Any:
        return numbers("coco_detection", samples, lambda _: json.dumps(predictions))

    assert ap(right, wrong)["AP"] == pytest.approx(1)
    assert ap(wrong, right)["AP"] == pytest.approx(0.5)
    scores = ap({**wrong, "score": 0.1}, {**right, "score": 0.9})
    assert (scores["AP"], scores["AP.said"]) == (pytest.approx(0.5), pytest.approx(1))
    assert ap(right)["AP_large"] == -1  # no object is that large
    assert ap(right, {"bbox_2d": [0, 0, 9, 9], "label": "unicorn"})["unknown_labels"] == 0.5
    crowd = ap(right, {"bbox_2d": [0, 0, 60, 40], "label": "person"})
    assert (crowd["AP"], crowd["unknown_labels"]) == (pytest.approx(1), 0)  # a crowd absorbs what is said of it


def test_earlier_detections_may_count_as_surer(tmp_path: Path) -> None:
    instances = {**INSTANCES, "annotations": [INSTANCES["annotations"][0], INSTANCES["annotations"][2]]}
    samples = benchmark("coco_detection", tmp_path, {"instances_val2017.json": instances}).load()
    junk = [{"bbox_2d": [50, 40, 60, 47], "label": "dog"}] * 2

    def reply(sample: Sample) -> str:
        return json.dumps([*json.loads(gold(sample)), *(junk if sample.meta["item"] == "0" else [])])

    metrics = numbers("coco_detection", samples, reply)
    assert metrics["AP"] == pytest.approx(
        (51 * 1 + 50 * 0.5) / 101
    )  # the junk of the first picture comes before the second
    assert metrics["AP.order"] == pytest.approx(1)


def test_predictions_in_another_space_are_converted_and_never_guessed(tmp_path: Path) -> None:
    samples = [s for s in benchmark("coco_detection", tmp_path).load() if s.meta["item"] == "1"]
    unit = json.dumps([{"bbox_2d": [4 / 64, 4 / 48, 44 / 64, 44 / 48], "label": "dog"}])
    record = answered("coco_detection", samples, lambda _: unit)[0]
    assert coco_numbers([record])["AP"] == 0
    record.meta["space"] = "unit"
    assert coco_numbers([record])["AP"] == pytest.approx(1)


def test_pictures_of_odinw_need_no_ids(tmp_path: Path) -> None:
    rows = [{**ODINW[0], "image": cell(i), "image_id": None} for i in range(2)]
    assert len(benchmark("odinw13", tmp_path, rows).load()) == 2


def test_odinw_averages_the_sets_that_have_objects(tmp_path: Path) -> None:
    samples = benchmark("odinw13", tmp_path).load()
    metrics = numbers("odinw13", samples, lambda s: gold(s) if s.meta["dataset"] == "Raccoon" else "[]")
    assert (metrics["AP.Raccoon"], metrics["AP.pistols"], metrics["AP.pothole"]) == (pytest.approx(1), 0, None)
    assert metrics["mean_AP"] == pytest.approx(0.5)
    with pytest.raises(InputError, match="dataset_name 'Racoon' is unknown; expected one of"):
        benchmark("odinw13", tmp_path / "b", [{**ODINW[0], "dataset_name": "Racoon"}]).load()
    with pytest.raises(InputError, match="expected xyxy pixels"):
        benchmark("odinw13", tmp_path / "c", [{**ODINW[0], "bboxes": [[30.0, 1.0, 1.0, 30.0]]}]).load()


def test_a_gold_over_the_edge_is_found_by_answering_it(tmp_path: Path) -> None:
    boxes = {0: [-6.0, 8.0, 30.0, 20.0], 1: [40.0, 30.0, 32.0, 26.0]}  # of 64 x 48 pixels
    annotations = [
        {**INSTANCES["annotations"][0], "id": i + 1, "image_id": i, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, box in boxes.items()
    ]
    beside = {**annotations[0], "id": 9, "bbox": [70.0, 8.0, 10.0, 10.0]}  # nothing of it is in the picture
    for extra in ([], [beside]):
        images = [{**image, "width": 64, "height": 48} for image in INSTANCES["images"]]
        instances = {**INSTANCES, "images": images, "annotations": [*annotations, *extra]}
        samples = benchmark("coco_detection", tmp_path / str(len(extra)), {"instances_val2017.json": instances}).load()
        metrics = numbers("coco_detection", samples, gold)
        assert (metrics["AP"], metrics["accuracy"]) == (pytest.approx(1), 1)


def test_a_gold_box_without_area_is_no_object(tmp_path: Path) -> None:
    whole = INSTANCES["annotations"][0]
    flat = {**whole, "id": 99, "bbox": [5.0, 5.0, 0.0, 9.0], "area": 0}
    instances = {**INSTANCES, "annotations": [*INSTANCES["annotations"], flat]}
    samples = benchmark("coco_detection", tmp_path, {"instances_val2017.json": instances}).load()
    records = answered("coco_detection", samples, gold)
    assert [record.scores["accuracy"] for record in records] == [1.0] * len(records)
    assert numbers("coco_detection", samples, gold)["AP"] == pytest.approx(1)
    row = {**ODINW[0], "bboxes": [*ODINW[0]["bboxes"], [3.0, 3.0, 3.0, 9.0]]}
    row["labels"] = [*row["labels"], row["labels"][0]]
    (sample,) = benchmark("odinw13", tmp_path / "b", [row]).load()
    assert len(sample.answer["boxes"]) == len(ODINW[0]["bboxes"])
