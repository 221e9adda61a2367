"""Detection: all objects of the named categories with their boxes, on COCO and on the 13 sets of ODinW.

A language model gives no confidences. By default all detections have the score 1.0, and their order in the response
breaks ties. With `order`, earlier detections get higher scores; with `said`, the scores in the response count.
Scores from log-probabilities are impossible, because records hold no token probabilities.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import SPACES, listed, listed_texts, picture, picture_name
from eval.benchmarks.coco import coco_rows
from eval.benchmarks.metrics import groups, mean, micro, prefixed, unparsed_share
from eval.records import Record
from eval.score import rollout_of
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Verdict
from rewards.parse.objects import Object, objects, plain_label
from rewards.rules.grounding import UNKNOWN, cut_at, frame_of, ordered

Confidence = Literal["const", "order", "said"]
NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
ODINW = (
    *("AerialMaritimeDrone", "Aquarium", "CottontailRabbits", "EgoHands", "NorthAmericaMushrooms", "Packages"),
    *("PascalVOC", "Raccoon", "ShellfishOpenImages", "VehiclesOpenImages", "pistols", "pothole"),
    "thermalDogsAndPeople",
)
SCORERS = {"accuracy": default("box_set", threshold=0.5)}


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes of a response, [n, 4] as x1, y1, x2, y2 in pixels, with their labels and scores."""

    boxes_N4: np.ndarray
    labels: list[str]
    scores: list[float]


def coco_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image of COCO with all its objects. Crowds need not be found; a box in a crowd is not an error.

    A box without area is no object: nothing that is said could find it.
    """
    things = [i for i, crowd in enumerate(row["crowd"]) if not crowd and _has_area(row["boxes"][i])]
    crowds = [i for i, crowd in enumerate(row["crowd"]) if crowd]
    answer = {
        "boxes": [row["boxes"][i] for i in things],
        "labels": [row["labels"][i] for i in things],
        "areas": [row["areas"][i] for i in things],
        "crowd": {"boxes": [row["boxes"][i] for i in crowds], "labels": [row["labels"][i] for i in crowds]},
    }
    meta = {"dataset": "coco", "image_id": row["image_id"]}
    yield _item(str(row["image_id"]), row["categories"], answer, row, space, meta)


def odinw_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image of one of the 13 sets; labels are names or places in `categories`, boxes x1, y1, x2, y2 in pixels."""
    name = str(row["dataset_name"])
    if name not in ODINW:
        raise InputError(f"dataset_name {name!r} is unknown; expected one of {', '.join(ODINW)}")
    categories = listed_texts(row["categories"])
    labels = [label if isinstance(label, str) else categories[int(label)] for label in listed(row["labels"])]
    boxes = [[float(value) for value in listed(box)] for box in listed(row["bboxes"])]
    if len(labels) != len(boxes) or any(len(box) != 4 or box[2] < box[0] or box[3] < box[1] for box in boxes):
        raise InputError(f"{name}: {len(labels)} labels for the boxes {boxes!r:.100}; expected xyxy pixels for each")
    things = [(box, label) for box, label in zip(boxes, labels, strict=True) if _has_area(box)]
    answer = {
        "boxes": [box for box, _ in things],
        "labels": [label for _, label in things],
        "areas": [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in things],
    }
    given = [row[key] for key in ("image_id", "id") if row.get(key) is not None]
    number = given[0] if given else picture_name(row["image"], digits=16)
    yield _item(f"{name}/{number}", categories, answer, row, space, {"dataset": name})


def coco_metrics(records: Sequence[Record]) -> Metrics:
    """COCO's twelve numbers, AP under other confidences, and the share of boxes with an unknown label."""
    numbers = coco_numbers(records)
    for confidence in ("order", "said"):
        numbers[f"AP.{confidence}"] = coco_numbers(records, confidence)["AP"]
    return {**numbers, **_failures(records)}


def odinw_metrics(records: Sequence[Record]) -> Metrics:
    """AP of each set, and the mean over the sets that have objects."""
    aps: Metrics = {}
    for name, group in groups(records, "dataset").items():
        there = any(record.gold["boxes"] for record in group)
        aps[name] = coco_numbers(group)["AP"] if there else None
    return {"mean_AP": mean(aps.values()), **prefixed("AP", aps), **_failures(records)}


def coco_numbers(records: Sequence[Record], confidence: Confidence = "const") -> Metrics:
    """COCO's twelve numbers by pycocotools; -1 for a range of sizes without objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    records = sorted(records, key=lambda r: (len(r.meta["item"]), r.meta["item"]))  # ties keep this order
    names = {label: i + 1 for i, label in enumerate(sorted({name for r in records for name in _asked(r)}))}
    golds, predictions = [], []
    for image, record in enumerate(records, 1):
        golds += _gold(record, image, names)
        detections = detected(record, confidence)
        for box, label, score in zip(detections.boxes_N4.tolist(), detections.labels, detections.scores, strict=True):
            if label in names:
                predictions.append(_annotation(image, names[label], box, score=score))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth: Any = COCO()
        predicted: Any = COCO()
        for coco, annotations in ((truth, golds), (predicted, predictions)):
            coco.dataset = {
                "images": [{"id": image} for image in range(1, len(records) + 1)],
                "categories": [{"id": number, "name": name} for name, number in names.items()],
                "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, 1)],
            }
            coco.createIndex()
        evaluation = COCOeval(truth, predicted, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(NUMBERS, evaluation.stats, strict=True)}


def detected(record: Record, confidence: Confidence = "const") -> Detections:
    """The detections of a response, clipped to the image; none if its coordinates cannot be converted to pixels."""
    frame = frame_of(rollout_of(record), None)
    named: list[Object] = objects(record.answer_text) if record.answer_text else []
    if isinstance(frame, Verdict) or not named:
        return Detections(np.zeros((0, 4)), [], [])
    boxes_N4 = cut_at(ordered(frame.pixels([detection.box for detection in named])), np.array([frame.size]))
    scores = [1.0] * len(named)
    if confidence == "order":
        scores = [1 / (1 + place) for place in range(len(named))]
    elif confidence == "said":
        scores = [1.0 if detection.score is None else detection.score for detection in named]
    return Detections(boxes_N4, [detection.label for detection in named], scores)


def _item(name: str, categories: Sequence[str], answer: Any, row: Row, space: CoordinateSpace, meta: Any) -> Item:
    text = (
        f"Find every instance of these categories: {', '.join(categories)}.\n"
        'Answer with a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": "..."}, the surest first, boxes '
        f"{SPACES[space]}; [] if there is none."
    )
    return Item(name, "detection", text, answer, picture(row["image"]), {**meta, "categories": list(categories)})


def _has_area(box: Sequence[float]) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _asked(record: Record) -> list[str]:
    return [plain_label(label) for label in [*record.meta["categories"], *record.gold["labels"]]]


def _gold(record: Record, image: int, names: dict[str, int]) -> list[dict[str, Any]]:
    """The gold boxes, clipped to the image as the detections are; what lies outside of it is no object."""
    gold, crowd = record.gold, record.gold.get("crowd") or {"boxes": [], "labels": []}
    things = [
        _annotation(image, names[plain_label(label)], box, area=area)
        for box, label, area in zip(_clipped(gold["boxes"], record), gold["labels"], gold["areas"], strict=True)
        if _has_area(box)
    ]
    crowds = [
        _annotation(image, names[plain_label(label)], box, iscrowd=1)
        for box, label in zip(_clipped(crowd["boxes"], record), crowd["labels"], strict=True)
        if plain_label(label) in names
    ]
    return things + crowds


def _clipped(boxes: Sequence[Sequence[float]], record: Record) -> list[list[float]]:
    frame = frame_of(rollout_of(record), CoordinateSpace.pixel)
    size = UNKNOWN if isinstance(frame, Verdict) else frame.size
    return cut_at(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array([size])).tolist()


def _annotation(image: int, category: int, box: Sequence[float], **more: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    xywh = [x1, y1, x2 - x1, y2 - y1]
    plain = {"image_id": image, "category_id": category, "bbox": xywh, "area": xywh[2] * xywh[3], "iscrowd": 0}
    return {**plain, **more}


def _failures(records: Sequence[Record]) -> Metrics:
    """The mean of the default scorer over images, and the shares of unknown labels and unparsed answers."""
    labels = [(label, {*_asked(record)}) for record in records for label in detected(record).labels]
    unknown = mean(float(label not in asked) for label, asked in labels)
    return {"accuracy": micro(records), "unknown_labels": unknown, "unparsed": unparsed_share(records)}


BENCHMARKS = [
    Benchmark(
        name="coco_detection",
        about="All objects of COCO's 80 categories as JSON boxes. COCO's twelve numbers, every box with score 1.0.",
        hub="COCO's instances_val2017.json",
        columns=("image_id", "image", "boxes", "labels", "crowd", "categories"),
        items=coco_items,
        scorers=SCORERS,
        metrics=coco_metrics,
        known_by="AP",
        version=3,
        split="val2017",
        rows=5000,
        read=coco_rows,
    ),
    Benchmark(
        name="odinw13",
        about="All objects of a set's categories as JSON boxes. The mean AP over the 13 sets, and the AP of each.",
        hub="ODinW-13",
        columns=("image", "categories", "bboxes", "labels", "dataset_name"),
        items=odinw_items,
        scorers=SCORERS,
        metrics=odinw_metrics,
        known_by="mean_AP",
        version=3,
    ),
]
