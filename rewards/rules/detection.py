"""Rewards for sets of boxes and points: every object once, and nothing else.

Shapes: N predictions, M gold objects. Extra predictions always cost; `as_released=True` gives the behaviour of the
papers' code instead, where they may be free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, progress, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.objects import objects, plain_label, points, says_none
from rewards.parse.regions import boxes
from rewards.rules.box_set_modes import MODES, NEAR_POINT, Scene, in_one_order, inside, matched
from rewards.rules.grounding import cut_at, frame_of, gold_rows, ordered

Mode = Literal["f1", "recall", "precision", "map", "od_length", "weighted", "vision_r1", "visionreasoner"]
NOWHERE = (np.nan, np.nan)
TIED = (
    "map",
    "weighted",
    "vision_r1",
    "visionreasoner",
)  # their score may depend on which of several equal matchings is taken

Share = Annotated[float, Field(ge=0, le=1)]


@per_rollout
def box_set(
    rollout: Rollout,
    *,
    mode: Mode = "f1",
    threshold: Share | None = None,
    classes: bool = True,
    as_released: bool = False,
    space: CoordinateSpace | None = None,
) -> Verdict:
    """How well the boxes in the answer are the gold set: every object once, and nothing else.

    Gold: `boxes` in pixels, `labels`, and `points` for one mode. N boxes of the answer are matched one to one with the
    M gold boxes of the same label so that the sum of IoU is largest. With a `threshold` a pair counts 1 from that IoU
    on, else 0 (mode `map`: AP at that IoU alone). `classes=False` ignores labels. `space` is that of the completion's
    coordinates, as for `box_iou`. An empty gold set wants `[]` or "None". Only `od_length` and the released `map`
    depend on the order of the boxes. The modes, with what `as_released=True` changes to repeat the code of the papers:

    - `f1`: 2 sum / (N + M); `precision`: sum / N; `recall`: sum / max(N, M), as released sum / M, where junk is free.
    - `map`: COCO's AP@[.5:.95] with all scores equal and unmatched boxes ranked first, times the share of boxes whose
      label is in the gold; as released in the order of the answer, where junk after the last hit is free.
    - `od_length`, `weighted` (VLM-R1, 2504.07615): mAP x min(1, M / N); 0.7 position + 0.3 completeness.
    - `vision_r1` (2503.18013): the mean of recall and precision under thresholds that rise at half of the training; as
      released precision ignores unmatched boxes and quality is GIoU.
    - `visionreasoner` (2510.10606): 1 for IoU > .5, 1 for sides within 10 px, 1 for the point (if the gold has points),
      over max(N, M).

    >>> gold_boxes = {"boxes": [[0, 0, 10, 10], [50, 50, 90, 90]], "labels": ["cat", "dog"]}
    >>> cat, dog = {"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [50, 50, 90, 90], "label": "dog"}
    >>> completions = [Rollout(str(boxes).replace("'", '"'), gold_boxes) for boxes in ([cat, dog], [cat], [cat, cat])]
    >>> [round(verdict.score, 3) for verdict in box_set(completions)]
    [1.0, 0.667, 0.5]
    """
    scene = _scene(rollout, space, classes)
    if isinstance(scene, Verdict):
        return scene
    n, m = len(scene.pred_N4), len(scene.gold_M4)
    counts = f"{n} boxes for {m}"
    if not n or not m:
        return Verdict(float(n == m), counts)
    if mode in TIED and not (mode == "map" and as_released):  # that one and od_length are about the response's order
        scene = in_one_order(scene)
    score = MODES[mode](scene, threshold, as_released)
    return Verdict(min(max(float(score), 0.0), 1.0), f"{mode} {score:.3f}, {counts}{scene.doubt}")


@per_rollout
def point_match(
    rollout: Rollout,
    *,
    radius: Annotated[float, Field(gt=0, allow_inf_nan=False)] = NEAR_POINT,
    space: CoordinateSpace | None = None,
) -> Verdict:
    """The F1 of the points in the answer: a point hits inside a gold box, each gold once (VisionReasoner, 2510.10606).

    Gold: `boxes` in pixels of the original; without boxes `points`, and a point hits within `radius` pixels of one.
    `space` is that of the completion's coordinates, as for `box_iou`.

    >>> hit = {"points": [[5, 5]], "boxes": [[0, 0, 10, 10]]}
    >>> [verdict.score for verdict in point_match([Rollout("(9, 1)", hit), Rollout("(9, 1) (11, 1)", hit)])]
    [1.0, 0.6666666666666666]
    >>> point_match([Rollout("[[9, 1], [300, 300]]", {"points": [[5, 5], [300, 300]]})])[0].score
    1.0
    """
    target = rollout.answer if isinstance(rollout.answer, Mapping) else {"points": rollout.answer}
    regions_M4 = gold_rows(target.get("boxes"), 4, boxes) if target.get("boxes") else None
    golds_M2 = gold_rows(target.get("points"), 2, points) if regions_M4 is None else None
    if regions_M4 is None and golds_M2 is None:
        return abstain("gold points are not [x, y] pixels, and there are no gold boxes")
    frame = frame_of(rollout, space)
    if isinstance(frame, Verdict):
        return frame
    text = answer_text(rollout.answered)
    found = points(text) if text is not None else []
    if not found:
        return unparsed("no point")
    points_N2 = frame.pixels(found)
    if regions_M4 is not None:
        hits_NM = inside(points_N2[:, None], ordered(regions_M4))
    else:
        assert golds_M2 is not None
        hits_NM = np.linalg.norm(points_N2[:, None] - golds_M2, axis=-1) <= radius
    hits = int(matched(hits_NM.astype(np.float64)).sum())
    told = f"{hits} hits of {hits_NM.shape[1]}, {hits_NM.shape[0]} points{frame.doubt(found)}"
    return Verdict(2 * hits / sum(hits_NM.shape), told)


def _scene(rollout: Rollout, space: CoordinateSpace | None, classes: bool) -> Scene | Verdict:
    target = rollout.answer if isinstance(rollout.answer, Mapping) else {"boxes": rollout.answer}
    listed = target.get("boxes")
    nothing = isinstance(listed, Sequence | np.ndarray) and not isinstance(listed, str) and len(listed) == 0
    gold_M4 = np.zeros((0, 4)) if nothing else gold_rows(gold(rollout, "boxes"), 4, boxes)
    if gold_M4 is None:
        return abstain("gold boxes are not [x1, y1, x2, y2] pixels")
    labels = target.get("labels") if classes else None
    if labels is not None and (not isinstance(labels, Sequence) or len(labels) != len(gold_M4)):
        return abstain(f"gold labels {labels!r} are not one for each of {len(gold_M4)} boxes")
    gold_points_M2 = gold_rows(target.get("points"), 2, points) if target.get("points") else None
    if gold_points_M2 is not None and len(gold_points_M2) != len(gold_M4):
        return abstain(f"gold points are {len(gold_points_M2)} for {len(gold_M4)} boxes")
    frame = frame_of(rollout, space)
    if isinstance(frame, Verdict):
        return frame
    gold_M4 = cut_at(ordered(gold_M4), np.array([frame.size]))
    if len(gold_M4) and not (gold_M4[:, 2:] > gold_M4[:, :2]).all(axis=1).all():
        return abstain("a gold box has no area inside the image")
    text = answer_text(rollout.answered)
    found = objects(text) if text is not None else []
    if not found and not (text is not None and says_none(text)):
        return unparsed("no boxes, and no statement that there are none")
    numbers = {name: i for i, name in enumerate(dict.fromkeys(plain_label(label) for label in labels or ()))}
    pred_N4 = ordered(frame.pixels([item.box for item in found])) if found else np.zeros((0, 4))
    return Scene(
        pred_N4=cut_at(pred_N4, np.array([frame.size])),
        gold_M4=gold_M4,
        pred_labels_N=np.array([numbers.get(item.label, -1) if labels else 0 for item in found], dtype=np.int64),
        gold_labels_M=np.array(
            [numbers[plain_label(item)] for item in labels] if labels else [0] * len(gold_M4), dtype=np.int64
        ),
        pred_points_N2=frame.pixels([item.point or NOWHERE for item in found])
        if any(item.point for item in found)
        else np.full((len(found), 2), np.nan),
        gold_points_M2=np.full((len(gold_M4), 2), np.nan) if gold_points_M2 is None else gold_points_M2,
        progress=progress(rollout),
        doubt=frame.doubt([item.box for item in found]),
    )
