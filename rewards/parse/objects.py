"""Labelled objects and points read from an answer text, by the same rules as `rewards.parse.regions`."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from rewards.parse.extract import ascii_forms, composed
from rewards.parse.regions import (
    BOX_KEYS,
    MAX_REGIONS,
    Box,
    as_box,
    by_sides,
    first_key,
    headed,
    inner_values,
    json_regions,
    under_key,
    written_boxes,
)

Point = tuple[float, float]

LABEL_KEYS = ("label", "category", "category_name", "class", "name")
POINT_KEYS = ("point_2d", "point", "points", "coordinate", "coordinates")
SCORE_KEYS = ("score", "confidence")
NOTHING = {"none", "null", "[]", "{}", "no object", "no objects", "nothing", "there are none"}

_NUMBER = r"([-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+)"
_PLAIN_NUMBER = re.compile(_NUMBER)
_BRACKETED_POINT = re.compile(rf"[\[(]\s*+{_NUMBER}(?:\s*+,\s*+|\s++){_NUMBER}\s*+[\])]")
_POINT_TAG = re.compile(rf"<point\s++x\s?=\s?[\"']?{_NUMBER}[\"']?\s++y\s?=\s?[\"']?{_NUMBER}[\"']?")
_POINTS_TAG = re.compile(r"<points\s[^<>]{0,20000}")
_NUMBERED = re.compile(rf"\bx(\d*+)\s?=\s?[\"']?{_NUMBER}[\"']?\s*+y\1\s?=\s?[\"']?{_NUMBER}[\"']?")
_FILLED_TAG = re.compile(rf"<(?:point|\|point_start\||click)>\s*+[\[(]?\s*+{_NUMBER}(?:\s*+,\s*+|\s++){_NUMBER}")
_NAMED = re.compile(rf"\bx\s?[=:]\s?{_NUMBER}[\s,;]*+(?:and\s)?y\s?[=:]\s?{_NUMBER}", re.IGNORECASE)
_CALLED = re.compile(
    rf"\b(?:click|tap|point|moveto|left_click|double_click|move_to)\s?\(\s*+(?:start_box=)?['\"]?[\[(]?\s*+{_NUMBER}\s*+,\s*+{_NUMBER}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Object:
    """One object of an answer: its box as written, its label, its point, and its confidence."""

    box: Box
    label: str = ""
    point: Point | None = None
    score: float | None = None


def objects(text: str) -> list[Object]:
    """The boxes of an answer text with their labels, in its order; boxes of other notations than JSON have none.

    >>> objects('[{"bbox_2d": [1, 2, 3, 4], "label": " Cat", "point_2d": [2, 3]}, [5, 6, 7, 8]]')[0]
    Object(box=(1.0, 2.0, 3.0, 4.0), label='cat', point=(2.0, 3.0), score=None)
    """
    text = ascii_forms(text)
    found = json_regions(text, _objects_of) or [Object(box) for box in written_boxes(text)]
    corners = headed(text)
    return [replace(item, box=corners(item.box)) for item in found]


def points(text: str) -> list[Point]:
    """The points of an answer text. The first notation that occurs counts: JSON (pairs, or objects with x and y or one
    of POINT_KEYS), tags (`<point x= y=>`, `<points x1= y1= ...>`, `<point>x y</point>`), x= y=, calls, bracketed pairs.

    >>> points("Click (12, 3.5)."), points('{"point_2d": [1, 2]}'), points("[1, 2, 3]")
    ([(12.0, 3.5)], [(1.0, 2.0)], [])
    >>> points('<points x1="1" y1="2" x2="3" y2="4">two</points>'), points("click(x=300, y=200)")
    ([(1.0, 2.0), (3.0, 4.0)], [(300.0, 200.0)])
    """
    text = ascii_forms(text)
    if found := json_regions(text, _points_of):
        return found
    if tagged := _POINTS_TAG.search(text):
        return [_pair(match[2], match[3]) for match in islice(_NUMBERED.finditer(tagged[0]), MAX_REGIONS)]
    for pattern in (_POINT_TAG, _FILLED_TAG, _NAMED, _CALLED, _BRACKETED_POINT):
        matches = islice(pattern.finditer(text), MAX_REGIONS)
        if found := [point for match in matches if (point := _as_point([float(match[1]), float(match[2])]))]:
            return found
    return []


def _pair(x: str, y: str) -> Point:
    return (float(x), float(y))


def says_none(text: str) -> bool:
    """Whether an answer says that there is nothing to name.

    >>> says_none("None."), says_none("```json\\n[]\\n```"), says_none(""), says_none("no idea")
    (True, True, False, False)
    """
    plain = " ".join(text[:200].replace("```json", "").replace("`", "").casefold().split())
    return len(text) <= 200 and plain.rstrip(".") in NOTHING


def plain_label(label: Any) -> str:
    """A label as it is compared: trimmed, in one case."""
    return _folded(label) if isinstance(label, str) else ""


@functools.lru_cache(maxsize=1024)  # labels are few
def _folded(label: str) -> str:
    return " ".join(composed(label).casefold().split())


def _objects_of(value: Any) -> Iterator[Object]:
    nodes: list[tuple[Any, str, Point | None, float | None]] = [(value, "", None, None)]
    while nodes:
        node, label, point, score = nodes.pop()
        if box := as_box(node):
            yield Object(box, label, point, score)
        elif isinstance(node, dict) and (key := first_key(node, BOX_KEYS)):
            placed = under_key(key, node[key])
            label = plain_label(node.get(first_key(node, LABEL_KEYS)))
            point = _as_point(node.get(first_key(node, POINT_KEYS)))
            score = _finite(node.get(first_key(node, SCORE_KEYS)))
            nodes.append((placed, label, point, score))
        else:
            label = label or (plain_label(node.get(first_key(node, LABEL_KEYS))) if isinstance(node, dict) else "")
            nodes.extend((inner, label, point, score) for inner in inner_values(node) or by_sides(node))


def _points_of(value: Any) -> Iterator[Point]:
    nodes = [value]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            key = first_key(node, POINT_KEYS)
            if key and isinstance(node[key], dict):
                nodes.append(node[key])
                continue
            node = (
                [_number(node["x"]), _number(node["y"])] if "x" in node and "y" in node else node[key] if key else node
            )
        if point := _as_point(node):
            yield point
        else:
            nodes.extend(inner_values(node))


def _number(value: Any) -> Any:
    """A number that JSON has as a text."""
    return float(value) if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value.strip()) else value


def _finite(node: Any) -> float | None:
    return node if isinstance(node, float) and math.isfinite(node) else None


def _as_point(node: Any) -> Point | None:
    """[x, y]; the JSON decoder makes every number a float."""
    if not isinstance(node, list) or len(node) != 2:
        return None
    x, y = node
    return (x, y) if isinstance(x, float) and isinstance(y, float) and math.isfinite(x + y) else None
