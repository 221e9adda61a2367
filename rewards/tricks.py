"""Answers that need no look at the picture. A reward is lax if one of them earns more than a draw from the golds.

Shapes: an answer is in parts, as in `rewards.workbench`: boxes, points or spans, or texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rewards.base import Rollout

LEAST_GOLDS = 5  # different golds, of which the middle or the vocabulary says something about a domain
GAIN = 0.05  # by how much the mean of a trick must be above a guess's
ROWS = 14  # windows in a row of the grid, and rows
MOST_WORDS = 200

Parts = list[Any]
Trick = Callable[[Rollout, Parts, Sequence[Parts]], Parts | None]  # (sample, its gold, all golds) -> the answer


def grid_of_boxes(sample: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """Windows of the usual size all over the picture, each with the label that is asked for."""
    rows = _rows(golds, "bbox_2d")
    if not rows or not _has(gold, "bbox_2d"):
        return None
    width, height = _extent(sample, rows)
    w, h = median(x2 - x1 for x1, _, x2, _ in rows), median(y2 - y1 for _, y1, _, y2 in rows)
    label = {key: value for key, value in gold[0].items() if key == "label"}
    corners = [((width - w) * i / ROWS, (height - h) * j / ROWS) for i in range(ROWS + 1) for j in range(ROWS + 1)]
    return [{"bbox_2d": [round(x, 1), round(y, 1), round(x + w, 1), round(y + h, 1)], **label} for x, y in corners]


def the_middle(sample: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """The box, point or span in the middle, of the usual size; the same for all samples."""
    if _different(golds) < LEAST_GOLDS:
        return None
    for key in ("bbox_2d", "point_2d"):
        if _has(gold, key) and (rows := _rows(golds, key)):
            middle = [round(median(side), 1) for side in zip(*rows, strict=True)]
            label = {name: value for name, value in gold[0].items() if name == "label"}
            return [{key: middle, **label}]
    if _are_spans(gold):
        return [[median(side) for side in zip(*(span for spans in golds for span in spans), strict=True)]]
    return None


def a_wrong_word(_: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """One word that is in no gold."""
    return ["zebrawood"] if _are_texts(gold) else None


def full_stops(_: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """Four full stops."""
    return [". . . ."] if _are_texts(gold) else None


def the_vocabulary(_: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """All words of all golds, sorted."""
    words = {word for parts in golds for part in parts for word in re.findall(r"\w+", str(part))}
    enough = _are_texts(gold) and _different(golds) >= LEAST_GOLDS
    return [" ".join(sorted(words)[:MOST_WORDS])] if enough else None


def a_safe_name(sample: Rollout, gold: Parts, golds: Sequence[Parts]) -> Parts | None:
    """Of lists of names, the one in most of them."""
    if not isinstance(sample.answer, Mapping) or not sample.answer.get("objects"):
        return None
    names = Counter(name for parts in golds for part in parts for name in str(part).split(", "))
    return [names.most_common(1)[0][0]]


TRICKS: Mapping[str, Trick] = {
    "a grid of boxes": grid_of_boxes,
    "the middle": the_middle,
    "a wrong word": a_wrong_word,
    "four full stops": full_stops,
    "the vocabulary": the_vocabulary,
    "a safe name": a_safe_name,
}


def _different(golds: Sequence[Parts]) -> int:
    return len({str(parts) for parts in golds})


def _has(parts: Parts, key: str) -> bool:
    return bool(parts) and isinstance(parts[0], dict) and key in parts[0]


def _are_texts(parts: Parts) -> bool:
    return bool(parts) and all(isinstance(part, str) for part in parts)


def _are_spans(parts: Parts) -> bool:
    return bool(parts) and all(isinstance(part, list) and len(part) == 2 for part in parts)


def _rows(golds: Sequence[Parts], key: str) -> list[list[float]]:
    return [part[key] for parts in golds for part in parts if isinstance(part, dict) and key in part]


def _extent(sample: Rollout, rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Width and height of the picture; where they are not known, what the golds reach."""
    media = sample.media[0] if sample.media else None
    if media and media.width and media.height:
        return float(media.width), float(media.height)
    return max(row[2] for row in rows), max(row[3] for row in rows)
