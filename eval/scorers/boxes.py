"""Scorers of one gold box: by the centre of the first box, and by the best of all boxes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mmrl.core.vision import CoordinateSpace
from mmrl.core.vision import box_iou as pairwise_iou
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.regions import boxes
from rewards.rules.grounding import Floats, cut_at, frame_of, gold_rows, ordered


@per_rollout
def centre_inside(rollout: Rollout, *, space: CoordinateSpace | None = None) -> Verdict:
    """1 if the centre of the first box is inside a gold box (gold: `boxes` in pixels).

    >>> centre_inside([Rollout("[4, 4, 6, 6]", {"boxes": [[0, 0, 10, 10]]})])[0].score
    1.0
    """
    read = _boxes(rollout, space)
    if isinstance(read, Verdict):
        return read
    found_N4, golds_M4 = read
    x, y = (found_N4[0, :2] + found_N4[0, 2:]) / 2
    inside = any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in golds_M4.tolist())
    return Verdict(float(inside), f"centre {x:.1f}, {y:.1f}")


@per_rollout
def best_of_all(
    rollout: Rollout, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5, space: CoordinateSpace | None = None
) -> Verdict:
    """1 if any of the boxes overlaps a gold box by the threshold; naming many boxes pays, so it is no default.

    >>> best_of_all([Rollout("[0, 0, 1, 1] or [0, 0, 9, 10]", {"boxes": [[0, 0, 10, 10]]})])[0].score
    1.0
    """
    read = _boxes(rollout, space)
    if isinstance(read, Verdict):
        return read
    best = float(pairwise_iou(*read).max())
    return Verdict(float(best >= threshold), f"best iou {best:.3f}")


def _boxes(rollout: Rollout, space: CoordinateSpace | None) -> tuple[Floats, Floats] | Verdict:
    """The boxes of the answer and the gold ones, in pixels and cut at the image."""
    golds_M4 = gold_rows(gold(rollout, "boxes"), 4, boxes)
    if golds_M4 is None:
        return abstain("gold boxes are not [x1, y1, x2, y2] pixels")
    frame = frame_of(rollout, space)
    if isinstance(frame, Verdict):
        return frame
    text = answer_text(rollout.completion)
    found = boxes(text) if text is not None else []
    if not found:
        return unparsed("no box")
    size = np.array([frame.size])
    return cut_at(ordered(frame.pixels(found)), size), cut_at(ordered(golds_M4), size)
