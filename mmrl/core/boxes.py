"""Points and boxes: between coordinate spaces, and the IoU family. Plain numpy, any number at once.

Coordinates are continuous: a box [x1, y1, x2, y2] is x2 - x1 wide (no + 1), and an image of w pixels spans 0 to w.
Corners are taken as given: a box with x1 > x2 or y1 > y2 overlaps nothing; reorder before where that is not meant.
"""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmrl.core.config import InputError, nearest

IoUKind = Literal["iou", "giou", "diou", "ciou"]
Floats = NDArray[np.float64]


class CoordinateSpace(StrEnum):
    """The unit of coordinates: pixels of the original image, 0..1, 0..1000, or pixels of the image as the
    model saw it."""

    pixel = auto()
    unit = auto()
    per_mille = auto()
    resized = auto()


def to_pixels(coords: ArrayLike, space: CoordinateSpace | str, size: ArrayLike, seen_size: ArrayLike = ()) -> Floats:
    """Coordinates [..., 2k] of x, y pairs (points, boxes) in `space` as pixels of the original image.

    `size` and `seen_size` are (width, height) of the original and of the image the model saw (needed for `resized`),
    or arrays [..., 2] of them, one for each row.

    >>> to_pixels([[250, 500, 1000, 1000]], "per_mille", (640, 480)).tolist()
    [[160.0, 240.0, 640.0, 480.0]]
    """
    size, extent = _extents(space, size, seen_size)
    return _scaled(coords, size, extent)


def from_pixels(coords: ArrayLike, space: CoordinateSpace | str, size: ArrayLike, seen_size: ArrayLike = ()) -> Floats:
    """Pixels of the original image as coordinates in `space`, not rounded; the inverse of `to_pixels`.

    >>> from_pixels([160, 240], "resized", (640, 480), seen_size=(320, 240)).tolist()
    [80.0, 120.0]
    """
    size, extent = _extents(space, size, seen_size)
    return _scaled(coords, extent, size)


def rounded(coords: Floats, space: CoordinateSpace) -> list:
    """Coordinates in `space` as a model writes them: thousandths of the unit, or whole numbers."""
    return np.round(coords, 3).tolist() if space is CoordinateSpace.unit else np.rint(coords).astype(int).tolist()


def box_iou(a: ArrayLike, b: ArrayLike, kind: IoUKind = "iou") -> Floats:
    """The overlap [M, N] of every box of `a` [M, 4] with every box of `b` [N, 4]; see `box_iou_paired`."""
    return _overlap(_boxes(a)[:, None], _boxes(b)[None, :], kind)


def box_iou_paired(a: ArrayLike, b: ArrayLike, kind: IoUKind = "iou") -> Floats:
    """The overlap [N] of each box of `a` [N, 4] with the box of `b` [N, 4] in the same place.

    1 for equal boxes of some area. Ranges: iou [0, 1], giou and diou (-1, 1], ciou (-1.5, 1]; only boxes without area
    reach the open ends. Where the union has no area, the IoU is 0 and the penalties of the other kinds still count.
    Corners must be finite numbers.

    >>> box_iou_paired([[0, 0, 10, 10]], [[5, 5, 15, 15]]).round(7).tolist()
    [0.1428571]
    """
    a, b = _boxes(a), _boxes(b)
    if len(a) != len(b):
        raise ValueError(f"boxes are compared in pairs, got {len(a)} and {len(b)}; box_iou compares all with all")
    return _overlap(a, b, kind)


def _overlap(a: Floats, b: Floats, kind: IoUKind) -> Floats:
    """The `kind` of overlap of boxes [..., 4] that broadcast. GIoU: arXiv 1902.09630; DIoU, CIoU: arXiv 1911.08287."""
    if kind not in get_args(IoUKind):
        raise InputError(f"unknown kind of IoU {kind!r}; {nearest(str(kind), get_args(IoUKind))}")
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0).prod(axis=-1)
    union = size_a.prod(axis=-1) + size_b.prod(axis=-1) - shared
    iou = _ratio(shared, union)
    if kind == "iou":
        return iou
    hull = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])  # width, height around both
    if kind == "giou":
        hull_area = hull.prod(axis=-1)
        return iou - _ratio(hull_area - union, hull_area)
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2  # from centre to centre
    diou = iou - _ratio((between**2).sum(axis=-1), (hull**2).sum(axis=-1))
    if kind == "diou":
        return diou
    aspect_gap = 4 / np.pi**2 * (_slant(size_a) - _slant(size_b)) ** 2  # v in the paper
    return diou - _ratio(aspect_gap**2, 1 - iou + aspect_gap)


def _slant(size: Floats) -> Floats:
    """arctan(width / height), defined for a box without height too."""
    return np.arctan2(size[..., 0], size[..., 1])


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, and 0 where the whole is not positive."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=~(whole <= 0))


def _boxes(boxes: ArrayLike) -> Floats:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes are rows [x1, y1, x2, y2], got an array of shape {array.shape}")
    return array


def _scaled(coords: ArrayLike, to: Floats, of: Floats) -> Floats:
    """x, y pairs times to / of; multiplied first, so that the far corner lands on the corner."""
    pairs = np.asarray(coords, dtype=np.float64)
    if pairs.ndim == 0 or pairs.shape[-1] % 2:
        raise ValueError(f"coordinates are x, y pairs along the last axis, got an array of shape {pairs.shape}")
    count = pairs.shape[-1] // 2
    return pairs * np.tile(to, count) / np.tile(of, count)


def _extents(space: CoordinateSpace | str, size: ArrayLike, seen_size: ArrayLike) -> tuple[Floats, Floats]:
    """(width, height) of the original image in pixels, and of the same image in `space`."""
    extents: dict[str, ArrayLike] = {
        CoordinateSpace.pixel: size,
        CoordinateSpace.unit: (1, 1),
        CoordinateSpace.per_mille: (1000, 1000),
        CoordinateSpace.resized: seen_size,
    }
    if space not in extents:
        raise InputError(f"unknown coordinate space {space!r}; {nearest(space, extents)}")
    image, extent = np.asarray(size, dtype=np.float64), np.asarray(extents[space], dtype=np.float64)
    for name, sides in (("size", image), ("seen_size", extent)):
        if sides.shape[-1:] != (2,) or not (sides > 0).all():
            raise InputError(f"space {space}: {name} must be a positive (width, height), got {sides.tolist()}")
    return image, extent
