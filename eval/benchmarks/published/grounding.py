"""RefCOCO, RefCOCO+ and RefCOCOg: one box for one expression, by Acc@0.5.

The images of all splits are from COCO train2014: training data made from it must exclude their image ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.cells import SPACES, listed, picture
from eval.benchmarks.metrics import micro, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from mmrl.core.vision import box_iou as pairwise_iou
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.regions import boxes
from rewards.rules.grounding import Floats, cut_at, frame_of, gold_rows, ordered

COLUMNS = ("question_id", "image", "answer", "bbox")
SCORERS = {
    "accuracy": default("box_iou", threshold=0.5),
    "iou": variant("box_iou"),
    "acc@0.3": variant("box_iou", threshold=0.3),
    "acc@0.7": variant("box_iou", threshold=0.7),
    "acc@0.9": variant("box_iou", threshold=0.9),
    "centre": variant("eval.benchmarks.published.grounding:centre_inside"),
    "best_of_all": variant("eval.benchmarks.published.grounding:best_of_all", threshold=0.5),
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
    return {**{name: micro(records, name) for name in SCORERS}, "unparsed": unparsed_share(records)}


@per_rollout
def centre_inside(rollout: Rollout, *, space: CoordinateSpace | None = None) -> Verdict:
    """1 if the centre of the first box is inside a gold box (gold: `boxes` in pixels).

    >>> centre_inside([Rollout("[4, 4, 6, 6]", {"boxes": [[0, 0, 10, 10]]})])[0].score
    1.0
    """
    read = _boxes(rollout, space)
    if isinstance(read, Verdict):
        return read
    predicted_N4, golds_M4 = read
    x, y = (predicted_N4[0, :2] + predicted_N4[0, 2:]) / 2
    inside = any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in golds_M4.tolist())
    return Verdict(float(inside), f"centre {x:.1f}, {y:.1f}")


@per_rollout
def best_of_all(
    rollout: Rollout, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5, space: CoordinateSpace | None = None
) -> Verdict:
    """1 if any of the boxes overlaps a gold box by the threshold. It rewards many boxes, so it is not the default.

    >>> best_of_all([Rollout("[0, 0, 1, 1] or [0, 0, 9, 10]", {"boxes": [[0, 0, 10, 10]]})])[0].score
    1.0
    """
    read = _boxes(rollout, space)
    if isinstance(read, Verdict):
        return read
    best = float(pairwise_iou(*read).max())
    return Verdict(float(best >= threshold), f"best iou {best:.3f}")


def _boxes(rollout: Rollout, space: CoordinateSpace | None) -> tuple[Floats, Floats] | Verdict:
    """The boxes of the answer and the gold boxes, in pixels, clipped to the image."""
    golds_M4 = gold_rows(gold(rollout, "boxes"), 4, boxes)
    if golds_M4 is None:
        return abstain("gold boxes are not [x1, y1, x2, y2] pixels")
    frame = frame_of(rollout, space)
    if isinstance(frame, Verdict):
        return frame
    size = np.array([frame.size])
    cut_M4 = cut_at(ordered(golds_M4), size)
    cut_M4 = cut_M4[(cut_M4[:, 2:] > cut_M4[:, :2]).all(axis=1)]
    if not len(cut_M4):  # as `box_iou`: all scorers count the same samples
        return abstain("gold boxes have no area inside the image")
    text = answer_text(rollout.answered)
    predicted = boxes(text) if text is not None else []
    if not predicted:
        return unparsed("no box")
    return cut_at(ordered(frame.pixels(predicted)), size), cut_M4


BENCHMARKS = [
    Benchmark(
        name=f"{name}_{split}",
        version=2,
        about="One box for one expression. Acc@0.5; also other thresholds, the mean IoU and the centre.",
        hub=hub,
        columns=COLUMNS,
        items=expressions,
        scorers=SCORERS,
        metrics=grounding_metrics,
        split=split,
        size=size,
    )
    for name, hub, splits in (
        ("refcoco", "lmms-lab/RefCOCO", {"val": 10834, "testA": 5657, "testB": 5095}),
        ("refcoco_plus", "lmms-lab/RefCOCOplus", {"val": 10758, "testA": 5726, "testB": 4889}),
        ("refcocog", "lmms-lab/RefCOCOg", {"val": 4896, "test": 9602}),
    )
    for split, size in splits.items()
]
