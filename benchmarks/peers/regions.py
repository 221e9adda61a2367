"""Rewards for boxes, points and spans as users of TRL write them. `benchmarks.rewards` compares with them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers.rewards import answer_of, row_by_row


def json_of(content: str) -> Any:
    """The JSON of an answer, out of its fence."""
    text = answer_of(content)
    fenced = re.search(r"```json(.*?)```", text, re.DOTALL)
    return json.loads(fenced.group(1) if fenced else text)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union else 0.0


@row_by_row
def box_iou(content: str, answer: Any) -> float:
    return max(iou(json_of(content)[0]["bbox_2d"], gold) for gold in answer["boxes"])


@row_by_row
def box_f1(content: str, answer: Any) -> float:
    from scipy.optimize import linear_sum_assignment

    predicted = json_of(content)
    golds, labels = answer["boxes"], answer["labels"]
    cost = np.zeros((len(predicted), len(golds)))
    for i, box in enumerate(predicted):
        for j, (gold, label) in enumerate(zip(golds, labels, strict=True)):
            cost[i, j] = -iou(box["bbox_2d"], gold) if box["label"].lower() == label.lower() else 0.0
    rows, columns = linear_sum_assignment(cost)
    return -2 * float(cost[rows, columns].sum()) / (len(predicted) + len(golds))


@row_by_row
def detection_map(content: str, answer: Any) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    predicted, names = json_of(content), sorted(set(answer["labels"]))
    truth: Any = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "images": [{"id": 1, "width": 2048, "height": 2048}],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": 1,
                    "category_id": names.index(label) + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": (box[2] - box[0]) * (box[3] - box[1]),
                    "iscrowd": 0,
                }
                for i, (box, label) in enumerate(zip(answer["boxes"], answer["labels"], strict=True))
            ],
        }
        truth.createIndex()
        detections = [
            {
                "image_id": 1,
                "category_id": names.index(item["label"]) + 1,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": 1.0,
            }
            for item in predicted
            if (box := item["bbox_2d"]) and item["label"] in names
        ]
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@row_by_row
def point_f1(content: str, answer: Any) -> float:
    from scipy.optimize import linear_sum_assignment

    points, golds = json_of(content), answer["boxes"]
    hits = np.zeros((len(points), len(golds)))
    for i, (x, y) in enumerate(points):
        for j, (x1, y1, x2, y2) in enumerate(golds):
            hits[i, j] = float(x1 <= x <= x2 and y1 <= y <= y2)
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return 2 * float(hits[rows, columns].sum()) / (len(points) + len(golds))


@row_by_row
def span_iou(content: str, answer: Any) -> float:
    match = re.search(r"\[\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\]", answer_of(content))
    if match is None:
        return 0.0
    start, end = sorted((float(match.group(1)), float(match.group(2))))
    best = 0.0
    for low, high in answer["spans"]:
        inter = max(0.0, min(end, high) - max(start, low))
        best = max(best, inter / (max(end, high) - min(start, low)))
    return best
