"""RefCOCO, RefCOCO+ and RefCOCOg: one box for one expression, by Acc@0.5.

The pictures of all splits are of COCO train2014: training data made of it must leave their image ids out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval.benchmarks.base import SPACES, Benchmark, Item, Metrics, Row, default, listed, picture, variant
from eval.benchmarks.metrics import micro, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

COLUMNS = ("question_id", "image", "answer", "bbox")
REWARDS = {
    "accuracy": default("box_iou", threshold=0.5),
    "iou": variant("box_iou"),
    "acc@0.3": variant("box_iou", threshold=0.3),
    "acc@0.7": variant("box_iou", threshold=0.7),
    "acc@0.9": variant("box_iou", threshold=0.9),
    "centre": variant("eval.scorers.boxes:centre_inside"),
    "best_of_all": variant("eval.scorers.boxes:best_of_all", threshold=0.5),
}


def expressions(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """One item per expression of a row; its box is [x, y, width, height] in pixels."""
    x, y, width, height = (float(value) for value in listed(row["bbox"]))
    if width <= 0 or height <= 0:
        raise InputError(f"question {row['question_id']}: the box {row['bbox']} has no area; expected xywh pixels")
    for number, expression in enumerate(listed(row["answer"])):
        yield Item(
            id=f"{row['question_id']}/{number}",
            task="grounding",
            text=f"Locate: {str(expression).strip()}\nAnswer with its box as [x1, y1, x2, y2] {SPACES[space]}.",
            answer={"boxes": [[x, y, x + width, y + height]]},
            media=picture(row["image"]),
            meta={"file_name": row.get("file_name")},
            group=str(row["question_id"]),
        )


def grounding_metrics(records: Sequence[Record]) -> Metrics:
    """Every threshold's accuracy, mean IoU and centre accuracy, over expressions."""
    return {**{name: micro(records, name) for name in REWARDS}, "unparsed": unparsed_share(records)}


BENCHMARKS = [
    Benchmark(f"{name}_{split}", hub, COLUMNS, expressions, REWARDS, grounding_metrics, split=split, size=size)
    for name, hub, splits in (
        ("refcoco", "lmms-lab/RefCOCO", {"val": 10834, "testA": 5657, "testB": 5095}),
        ("refcoco_plus", "lmms-lab/RefCOCOplus", {"val": 10758, "testA": 5726, "testB": 4889}),
        ("refcocog", "lmms-lab/RefCOCOg", {"val": 4896, "test": 9602}),
    )
    for split, size in splits.items()
]
