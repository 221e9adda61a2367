"""What pictures that were made show beside their reward: whether they collapse, and how far from real ones they are.

Shapes: B pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmrl.model.flow.pictures import opened, resized, right_of, sources_of

FLAT = 2 / 255  # a picture whose channels spread less is constant
FULL = 0.95  # of the values of a saturated picture lie at an end of the range
MEASURES = ("pictures/constant", "pictures/saturated", "pictures/distance_to_real")

Pixels = NDArray[Any]


def measured(shots: Sequence[Sequence[Image.Image]], rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """[B][3]: MEASURES of what was made of rows, each as its frames: one of a picture.

    Whether it shows one colour; whether nearly all of its values lie at an end of the range; and the mean difference of
    a channel, in [0, 1], to the nearer one of the source and the right picture: NaN where the row shows neither.
    """
    real: dict[str, list[Image.Image]] = {}  # of a group they are the same
    found = []
    for shot, row in zip(shots, rows, strict=True):
        if row["id"] not in real:
            real[row["id"]] = opened([*sources_of(row), *right_of(row)])
        pixels = np.stack([_pixels(frame) for frame in shot])
        gaps = [float(np.abs(pixels - _pixels(resized(other, shot[0].size))).mean()) for other in real[row["id"]]]
        constant = pixels.std(axis=(0, 1, 2)).max() < FLAT
        saturated = ((pixels == 0) | (pixels == 1)).mean() > FULL
        found.append([float(constant), float(saturated), min(gaps, default=float("nan"))])
    return found


def _pixels(picture: Image.Image) -> Pixels:
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
