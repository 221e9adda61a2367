"""Checks whether the declared coordinate space is the model's: by its type, and by the boxes in its answers.

Gold answers are not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.records import Record
from mmrl.core.boxes import CoordinateSpace, to_pixels
from mmrl.core.families import SPOKEN
from rewards.parse.regions import boxes
from rewards.tasks.table import OTHER, TASKS

SLACK = 1.05  # times the sides of the image: answers overshoot a little
SUSPECT = 0.2  # with this share of the answers with boxes or more, the space is doubted


def space_check(records: Sequence[Record]) -> dict[str, Any] | None:
    """The number of answers with boxes, the share with a box outside the image, and the share with all coordinates
    below 1 although the space is not `unit`. None if no answer has a box."""
    fits = [verdict for record in records if (verdict := _fit(record)) is not None]
    if not fits:
        return None
    outside, fractions = (sum(fit[at] for fit in fits) / len(fits) for at in (0, 1))
    return {"boxes": len(fits), "outside": outside, "fractions": fractions}


def space_warning(check: Mapping[str, Any] | None, space: str) -> str:
    """A warning about the declared space, or an empty text."""
    if check is None:
        return ""
    for key, problem in (("outside", "leave the picture"), ("fractions", "are fractions of a pixel")):
        if check[key] >= SUSPECT:
            return (
                f"Of {check['boxes']} answers with boxes {check[key]:.0%} {problem} when read as `{space}`: "
                "is that the space the model speaks? Run again with another `space`."
            )
    return ""


def doubted_space(model_type: str, space: CoordinateSpace, tasks: Iterable[str]) -> str:
    """A warning if models of this type are known to speak another space and a task has boxes or points; else empty."""
    spoken = SPOKEN.get(model_type)
    placed = sorted(task for task in tasks if TASKS.get(task, OTHER).regions in ("boxes", "points"))
    if spoken in (None, space) or not placed:
        return ""
    return (
        f"space: {space.value}, but {model_type} models are known to give coordinates as `{spoken.value}` "
        f"({', '.join(placed)}): set space: {spoken.value}, unless this one was taught otherwise"
    )


def _fit(record: Record) -> tuple[bool, bool] | None:
    """(outside, fraction) of an answer with boxes on one picture."""
    pictures = [item for item in record.media if item["kind"] == "image" and item["width"]]
    if TASKS.get(record.task, OTHER).regions != "boxes" or len(pictures) != 1 or not record.answer_text:
        return None
    predicted = boxes(record.answer_text)
    if not predicted:
        return None
    space, size = record.meta.get("space", "pixel"), (pictures[0]["width"], pictures[0]["height"])
    corners = to_pixels(predicted, space, size, record.seen_size[0])[:, 2:]
    return bool((corners > SLACK * np.asarray(size)).any()), space != "unit" and max(map(max, predicted)) <= 1
