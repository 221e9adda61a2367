"""Rewards for places: boxes in an image and spans of time in a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmrl.vision import CoordinateSpace, box_iou_paired, to_pixels
from rewards.base import Rollout, Verdict, abstain, failed, gold, per_rollout, unparsed
from rewards.extract import answer_text
from rewards.regions import Box, boxes, spans

Share = Annotated[float, Field(ge=0, le=1)]
Floats = NDArray[np.float64]

FAR = 1e9  # pixels; where an image's size is unknown, boxes are cut here so that no area overflows


def box_iou(
    rollouts: Sequence[Rollout],
    *,
    kind: Literal["iou", "giou", "diou", "ciou"] = "iou",
    threshold: Share | None = None,
    space: CoordinateSpace | None = None,
) -> list[Verdict]:
    """The overlap of the first box that the completion names with the best gold box (gold: `boxes`, in pixels).

    The completion speaks in `space`, else in the rollout's `meta["space"]`, else in pixels of the original; the box lies
    in the first media item. Corners are put in order and boxes are cut at the image. The other kinds of overlap than
    IoU count from 0 up. With a threshold the score is 1 from there on, else 0.

    >>> box_iou([Rollout("[0, 0, 10, 5]", {"boxes": [[0, 0, 10, 10]]})])[0]
    Verdict(score=0.5, why='iou 0.500', kind='scored')
    """
