"""In which coordinate space are the gold boxes of a dataset really written?

A dataset stores pixels. If its source declared the wrong space, the stored numbers still tell: boxes in 0..1 are
smaller than a pixel, boxes in 0..1000 leave small images and never reach the far edge of large ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_engine.schema import Sample
from mmrl.vision import CoordinateSpace, VisionBudget, VisionGeometry, to_pixels

SLACK = 0.5  # pixels that a box may reach over the edge
LEAST_SIDE = 2.0  # pixels: a box with a shorter side shows nothing
FITS = 0.99  # the share of boxes that must be possible in a space that fits


@dataclass(frozen=True, slots=True)
class Fit:
    """How well boxes fit one space: the shares inside the image and large enough to show something, and how far they
    reach (1: to the right or lower edge, in the 99th percentile).
    """

    space: CoordinateSpace
    boxes: int
    inside: float
    plausible: float
    reach: float

    @property
    def possible(self) -> bool:
        """Whether nearly all boxes can have been written in this space."""
        return min(self.inside, self.plausible) >= FITS


def fits(samples: Iterable[Sample], budget: VisionBudget, geometry: VisionGeometry) -> list[Fit]:
    """The gold boxes as if they were written in each space; budget and geometry say what `resized` means."""
    rows = [
        (box, size, budget.image_size(*size, geometry))
        for sample in samples
        if sample.media and (size := (sample.media[0].width or 0, sample.media[0].height or 0)) > (0, 0)
        for box in sample.answer.get("boxes", [])
    ]
    if not rows:
        return []
    boxes, sizes, seen = (np.asarray(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return [_fit(space, to_pixels(boxes, space, sizes, seen), sizes) for space in CoordinateSpace]


def best(found: list[Fit]) -> Fit | None:
    """The fit to believe: possible, and reaching furthest towards the edges (boxes in the right space do)."""
    return max((fit for fit in found if fit.possible), key=lambda fit: fit.reach, default=None)


def _fit(space: CoordinateSpace, boxes: np.ndarray, sizes: np.ndarray) -> Fit:
    upper, lower = boxes[:, 2:], boxes[:, :2]
    inside = (lower >= -SLACK).all(axis=1) & (upper <= sizes + SLACK).all(axis=1)
    plausible = (upper - lower >= LEAST_SIDE).all(axis=1)
    reach = np.quantile((upper / sizes).max(axis=1), 0.99)
    return Fit(space, len(boxes), float(inside.mean()), float(plausible.mean()), float(reach))
