"""Rewards for places: boxes in an image and spans of time in a video.

Shapes: N predictions, M gold boxes (one or more for each prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmrl.core.vision import CoordinateSpace, box_iou_paired, to_pixels
from rewards.base import IN_UNIT, Rollout, Verdict, abstain, failed, gold, per_answer, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.regions import Box, boxes
from rewards.parse.spans import Span, spans

Kind = Literal["iou", "giou", "diou", "ciou"]
Floats = NDArray[np.float64]
Sides = tuple[float, float]

DOUBT = f", {IN_UNIT}"
FAR = 1e9  # pixels; boxes are cut at it where the size of the image is unknown, so that no area overflows
UNKNOWN: Sides = (FAR, FAR)
_SPACES = {space.value: space for space in CoordinateSpace}


def box_iou(
    rollouts: Sequence[Rollout],
    *,
    kind: Kind = "iou",
    threshold: Annotated[float | None, Field(ge=0, le=1)] = None,
    space: CoordinateSpace | None = None,
    as_released: bool = False,
    cut: bool = True,
) -> list[Verdict]:
    """The overlap of the first box in the answer with the best gold box (RefCOCO; VLM-R1, 2504.07615).

    Gold: `boxes` in pixels of the original image, which is the first media item. The completion's coordinates are
    in `space`, else in the rollout's `meta["space"]`, else in pixels. Corners are put in order and boxes are cut at
    the image; `cut=False` compares them whole, as published evaluations do. `kind` is `iou`, `giou` (1902.09630),
    `diou` or `ciou` (1911.08287); the last three are cut at 0. With a `threshold` the score is 1 from that overlap
    on, else 0. `as_released=True` repeats the code of VLM-R1: boxes that share at most one pixel of width or of
    height do not overlap.

    >>> gold_box = {"boxes": [[0, 0, 10, 10]]}
    >>> [verdict.score for verdict in box_iou([Rollout(f"[0, 0, 10, {y}]", gold_box) for y in (5, 10)])]
    [0.5, 1.0]
    """
    golds: dict[int, Floats | None] = {}  # the rollouts of a group share their answer
    read = [_read(rollout, space, golds) for rollout in rollouts]
    scored = iter(
        _overlaps([reading for reading in read if not isinstance(reading, Verdict)], kind, threshold, as_released, cut)
    )
    return [reading if isinstance(reading, Verdict) else next(scored) for reading in read]


def span_iou(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """The overlap in time of the first span in the answer with the best gold span (Charades-STA, 1705.02101).

    Gold: `spans`, [start, end] in seconds.

    >>> gold_span = {"spans": [[4, 8]]}
    >>> [v.score for v in span_iou([Rollout("from 2 to 6 seconds", gold_span), Rollout("[4, 8]", gold_span)])]
    [0.3333333333333333, 1.0]
    """
    return _span_iou(rollouts, golds={})


@per_answer
def _span_iou(rollout: Rollout, *, golds: dict[int, list[Span]]) -> Verdict:
    key = id(rollout.answer)  # the rollouts of a group share their answer
    if key not in golds:
        rows = gold_rows(gold(rollout, "spans"), 2, spans)
        listed = [] if rows is None else np.sort(rows).tolist()
        golds[key] = [(start, end) for start, end in listed if start < end]
    if not golds[key]:
        return abstain("gold spans are not [start, end] seconds of some length")
    text = answer_text(rollout.answered)
    found = spans(text) if text is not None else []
    if not found:
        return unparsed("no time span")
    overlap = max([_time_iou(found[0], span) for span in golds[key]])
    return Verdict(overlap, f"iou {overlap:.3f}")


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of a completion's coordinates: a space, and the sizes of the first media item that it needs."""

    space: CoordinateSpace
    size: Sides
    seen_size: Sides

    def pixels(self, coords: Sequence[Sequence[float]]) -> Floats:
        """Coordinates [n, 2k] as pixels of the original image, cut where no image reaches."""
        rows = np.clip(np.asarray(coords, dtype=np.float64), -FAR, FAR)
        return (
            rows
            if self.space == CoordinateSpace.pixel or not rows.size
            else to_pixels(rows, self.space, self.size, self.seen_size)
        )

    def doubt(self, coords: Sequence[Sequence[float]]) -> str:
        """A note for verdicts on coordinates [n, 2k] that read like shares of the picture in another space."""
        rows = np.asarray(coords, dtype=np.float64)
        doubted = rows.size and self.space != CoordinateSpace.unit and bool(in_unit(rows).all())
        return DOUBT if doubted else ""


ANYWHERE = Frame(CoordinateSpace.pixel, UNKNOWN, UNKNOWN)


def frame_of(rollout: Rollout, space: CoordinateSpace | None) -> Frame | Verdict:
    """`space`, else the rollout's `meta["space"]`, else pixels; a failure if a size that the space needs is unknown."""
    named = space or rollout.meta.get("space") or CoordinateSpace.pixel
    if named is CoordinateSpace.pixel and not rollout.media:
        return ANYWHERE
    if named not in _SPACES:
        return failed(f"unknown coordinate space {named!r}; known: {', '.join(CoordinateSpace)}")
    media = rollout.media[0] if rollout.media else None
    size = (media.width, media.height) if media and media.width and media.height else UNKNOWN
    seen_size = rollout.seen_size[0] if rollout.seen_size else UNKNOWN
    if named != CoordinateSpace.pixel and size is UNKNOWN:
        return failed(f"coordinates in space {named} need the width and height of the media item")
    if named == CoordinateSpace.resized and seen_size is UNKNOWN:
        return failed("coordinates in space resized need seen_size")
    return Frame(_SPACES[named], size, (seen_size[0], seen_size[1]))


@dataclass(frozen=True, slots=True)
class _Reading:
    """The data of one rollout to compare: its box as written, its frame, and the gold boxes in pixels [m, 4]."""

    box: Box
    golds: Floats
    frame: Frame


def _read(rollout: Rollout, space: CoordinateSpace | None, known: dict[int, Floats | None]) -> _Reading | Verdict:
    key = id(rollout.answer)
    if key not in known:
        known[key] = gold_rows(gold(rollout, "boxes"), 4, boxes)
    if (golds := known[key]) is None:
        return abstain("gold boxes are not [x1, y1, x2, y2] pixels")
    frame = frame_of(rollout, space)
    if isinstance(frame, Verdict):
        return frame
    text = answer_text(rollout.answered)
    found = boxes(text) if text is not None else []
    return _Reading(found[0], golds, frame) if found else unparsed("no box")


def _overlaps(
    readings: Sequence[_Reading], kind: Kind, threshold: float | None, as_released: bool, cut: bool
) -> list[Verdict]:
    """The verdicts on all readings, from one IoU of arrays."""
    if not readings:
        return []
    boxes_N4 = np.array([reading.box for reading in readings]).clip(-FAR, FAR)
    size_N2 = np.array([reading.frame.size for reading in readings], dtype=np.float64)
    seen_N2 = np.array([reading.frame.seen_size for reading in readings], dtype=np.float64)
    spaces = np.array([reading.frame.space.value for reading in readings])
    doubted_N = in_unit(boxes_N4) & (spaces != CoordinateSpace.unit.value)
    for space in set(spaces.tolist()) - {CoordinateSpace.pixel.value}:
        rows = spaces == space
        boxes_N4[rows] = to_pixels(boxes_N4[rows], space, size_N2[rows], seen_N2[rows])
    counts_N = np.array([len(reading.golds) for reading in readings])
    golds_M4 = np.concatenate([reading.golds for reading in readings])
    first_N = np.cumsum(counts_N) - counts_N  # where the gold boxes of each reading begin
    ordered_N4 = ordered(boxes_N4)
    cut_N4, cut_M4 = ordered_N4, ordered(golds_M4)
    if cut:
        cut_N4, cut_M4 = cut_at(cut_N4, size_N2), cut_at(cut_M4, size_N2.repeat(counts_N, axis=0))
    cut_said_M4 = cut_N4.repeat(counts_N, axis=0)
    overlap_M = box_iou_paired(cut_said_M4, cut_M4, kind=kind).clip(0, 1)
    if as_released:
        sides_M2 = np.minimum(cut_said_M4[:, 2:], cut_M4[:, 2:]) - np.maximum(cut_said_M4[:, :2], cut_M4[:, :2])
        overlap_M[(sides_M2 <= 1).any(axis=1)] = 0
    overlap_N = np.maximum.reduceat(overlap_M, first_N)
    scores_N = overlap_N if threshold is None else (overlap_N >= threshold).astype(np.float64)
    area_N = np.maximum.reduceat((cut_M4[:, 2:] - cut_M4[:, :2]).prod(axis=1), first_N)
    reordered_N = (ordered_N4 != boxes_N4).any(axis=1)
    return [
        Verdict(score, f"{kind} {overlap:.3f}{', corners reordered' if reordered else ''}{DOUBT if doubted else ''}")
        if area > 0
        else abstain("gold boxes have no area inside the image")
        for score, overlap, area, reordered, doubted in zip(
            scores_N.tolist(),
            overlap_N.tolist(),
            area_N.tolist(),
            reordered_N.tolist(),
            doubted_N.tolist(),
            strict=True,
        )
    ]


def in_unit(rows_NK: Floats) -> NDArray[np.bool_]:
    """Which rows of coordinates are within 0 and 1."""
    return np.all((rows_NK >= 0) & (rows_NK <= 1), axis=1)


def ordered(boxes_N4: Floats) -> Floats:
    """Boxes with x1 <= x2 and y1 <= y2."""
    return np.sort(boxes_N4.reshape(-1, 2, 2), axis=1).reshape(-1, 4)


def cut_at(boxes_N4: Floats, size_N2: Floats) -> Floats:
    """The part of boxes that is inside their images."""
    return np.minimum(np.maximum(boxes_N4, 0), np.concatenate([size_N2, size_N2], axis=1))


def gold_rows(value: Any, width: int, parse: Callable[[str], list[Any]]) -> Floats | None:
    """Gold boxes or spans as rows [m, width], from one row, several, or a text; None if they are not that."""
    try:
        rows = np.asarray(parse(value) if isinstance(value, str) else value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if rows.ndim == 1:
        rows = rows[None]
    return rows if rows.ndim == 2 and rows.size and rows.shape[1] == width and np.isfinite(rows).all() else None


def _time_iou(a: Span, b: Span) -> float:
    """Overlap over hull, as the temporal grounding benchmarks define it."""
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) / (max(a[1], b[1]) - min(a[0], b[0]))
