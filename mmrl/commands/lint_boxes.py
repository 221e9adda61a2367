"""In which coordinate space are the gold boxes of a dataset really written?

A dataset stores pixels. If its source declared the wrong space, the stored numbers still tell: boxes in 0..1 are
smaller than a pixel, boxes in 0..1000 leave small images and never reach the far edge of large ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.schema import Sample
from data_engine.validate.fault import Limits
from mmrl.commands.terminal import quarantine_rows
from mmrl.core.vision import CoordinateSpace, VisionBudget, VisionGeometry, to_pixels

LEAST_SIDE = 2.0  # pixels: a box with a shorter side shows nothing
NEARLY = 0.8  # the share of boxes in the space that fits best, where some boxes are wrong
FEW = 0.1  # the share of boxes that may be wrong where all of them fit another space
NAMED = 3  # boxes in a message
FITS = 0.99  # the share of boxes that must be possible in a space that fits
CLOSE = 0.95  # of the furthest reach: spaces closer than that are ranked by their order, pixel first
REFUSED = ("box_outside", "box_space")  # what validation says of boxes in another space


class Gold(NamedTuple):
    """A gold box as it is written, the (width, height) of its image in pixels, and the sample that has it."""

    box: list[float]
    size: tuple[int, int]
    of: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well boxes fit one space: the shares inside the image and large enough to show something, how far they reach
    (1: to the right or lower edge, in the 99th percentile), and the places of those that do not fit."""

    space: CoordinateSpace
    boxes: int
    inside: float
    plausible: float
    reach: float
    misfits: tuple[int, ...] = ()
    reach_of_fitting: float = 0.0  # the same without those places

    @property
    def possible(self) -> bool:
        """Whether nearly all boxes can have been written in this space."""
        return min(self.inside, self.plausible) >= FITS


def gold_boxes(directory: Path) -> list[Gold]:
    """The gold boxes of a dataset with the size of their image, those that were refused as outside of it included."""
    answers = [
        (sample.answer, sample.media[0].width, sample.media[0].height, _name(sample.id, sample.meta))
        for sample in _pictures(directory)
    ]
    for row in _refused(directory):
        name = _name(row.get("id") or "in the quarantine", row.get("meta") or {})
        answers += [(row["answer"], picture["width"], picture["height"], name) for picture in row["media"][:1]]
    return [
        Gold(box, (width, height), name)
        for answer, width, height, name in answers
        for box in answer.get("boxes", [])
        if width and height
    ]


def _name(identity: str, meta: Mapping[str, Any]) -> str:
    return f"{identity} ({meta['where']})" if meta.get("where") else identity


def over_edge(directory: Path) -> float:
    """By how many pixels a box of the dataset may reach over the edge: the limit that its recipe gave `validate`."""
    operators = (read_manifest(directory).get("origin") or {}).get("operators", ())
    given = next((operator["args"].get("limits") for operator in operators if operator["fn"] == "validate"), None)
    return Limits.model_validate(given or {}).over_edge


def fits(gold: Sequence[Gold], budget: VisionBudget, geometry: VisionGeometry, over: float) -> list[Fit]:
    """The boxes as if they were written in each space; budget and geometry say what `resized` means.

    A box that reaches up to `over` pixels over the edge is inside.
    """
    boxes, sizes = np.array([item.box for item in gold]), np.array([item.size for item in gold])
    seen = np.array([budget.image_size(*item.size, geometry) for item in gold])
    return [_fit(space, to_pixels(boxes, space, sizes, seen), sizes, over) for space in CoordinateSpace]


def verdict(candidates: Sequence[Fit], gold: Sequence[Gold]) -> str:
    """The space to believe in a sentence, with the boxes that do not fit it."""
    if chosen := best(candidates):
        if other := _further(candidates, chosen):
            also = f"; all boxes fit {chosen.space} too, but reach {chosen.reach:.0%} of the way there"
            return f"fits best: {other.space}{_exceptions(other, gold)}{also}"
        return f"fits: {chosen.space}{_exceptions(chosen, gold)}"
    nearly = sorted(candidates, key=lambda fit: len(fit.misfits))
    if len(nearly[0].misfits) > (1 - NEARLY) * len(gold) or len(nearly[0].misfits) == len(nearly[1].misfits):
        return "no space fits: the boxes are wrong or of other images"
    return f"fits best: {nearly[0].space}{_exceptions(nearly[0], gold)}"


def _exceptions(fit: Fit, gold: Sequence[Gold]) -> str:
    if not fit.misfits:
        return ""
    named = "; ".join(f"{gold[place].box} of {gold[place].of}" for place in fit.misfits[:NAMED])
    rest = f" and {len(fit.misfits) - NAMED} more" if len(fit.misfits) > NAMED else ""
    return f", but for {len(fit.misfits)} of {len(gold)} boxes, which leave the image or are too small: {named}{rest}"


def best(candidates: Sequence[Fit]) -> Fit | None:
    """The fit to believe: possible, and reaching as far towards the edges as any (boxes in the right space do)."""
    possible = [fit for fit in candidates if fit.possible]
    furthest = max((fit.reach for fit in possible), default=0.0)
    return next((fit for fit in possible if fit.reach >= CLOSE * furthest), None)


def _further(candidates: Sequence[Fit], chosen: Fit) -> Fit | None:
    """A space that all but a few boxes fit, and in which these reach clearly further towards the edges."""
    nearly = [fit for fit in candidates if not fit.possible and len(fit.misfits) <= FEW * fit.boxes]
    return next((fit for fit in nearly if chosen.reach < CLOSE * fit.reach_of_fitting), None)


def _pictures(directory: Path) -> Iterator[Sample]:
    return (sample for sample in read_samples(directory) if sample.media)


def _refused(directory: Path) -> list[dict[str, Any]]:
    """The samples in the quarantine whose boxes are not pixels of their image; some have no boxes."""
    return [json.loads(row["row"]) for row in quarantine_rows(directory) if row["reason"] in REFUSED]


def _fit(space: CoordinateSpace, boxes: np.ndarray, sizes: np.ndarray, over: float) -> Fit:
    upper, lower = boxes[:, 2:], boxes[:, :2]
    inside = (lower >= -over).all(axis=1) & (upper <= sizes + over).all(axis=1)
    plausible = (upper - lower >= LEAST_SIDE).all(axis=1)
    reach, right = (upper / sizes).max(axis=1), inside & plausible
    far = [float(np.quantile(reaches, 0.99)) if len(reaches) else 0.0 for reaches in (reach, reach[right])]
    misfits = tuple(np.flatnonzero(~right).tolist())
    return Fit(space, len(boxes), float(inside.mean()), float(plausible.mean()), far[0], misfits, far[1])
