"""Boxes and time spans read from an answer text: JSON first, then tags or clock times, then brackets and words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any, TypeVar

from rewards.parse.extract import ascii_forms

Box = tuple[float, float, float, float]
Span = tuple[float, float]
Region = TypeVar("Region")

BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box", "coordinates")
SPAN_KEYS = (("start", "end"), ("start_time", "end_time"))
MAX_REGIONS = 1000  # an answer names a few; more, or much broken JSON, would only cost time
MAX_BROKEN = 3

_NUMBER = r"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+"
_COMMA = r"(?:\s*+,\s*+|\s++)"
_MIDDLE = rf"(?:\s*+[\])]\s*+,?+\s*+[\[(]\s*+|{_COMMA})"  # nested pairs: [[x1, y1], [x2, y2]] or (x1,y1),(x2,y2)
_CORNERS = rf"({_NUMBER}){_COMMA}({_NUMBER}){_MIDDLE}({_NUMBER}){_COMMA}({_NUMBER})"
_TAGGED_BOX = re.compile(rf"<(?:box|\|box_start\|)>[\[(\s]*+{_CORNERS}[\])\s]*+<(?:/box|\|box_end\|)>")
_BRACKETED_BOX = re.compile(rf"[\[(]\s*+(?:[\[(]\s*+)?+{_CORNERS}\s*+[\])]")


def boxes(text: str) -> list[Box]:
    r"""The boxes of an answer text in its order, corners as written. The first notation that occurs counts:

    JSON, fenced or bare (lists, or objects with one of BOX_KEYS), `<box>(x1,y1),(x2,y2)</box>`, bracketed quadruples.

    >>> boxes('```json\n[{"bbox_2d": [1, 2.5, 3e1, 40], "label": "cat"}]\n```')
    [(1.0, 2.5, 30.0, 40.0)]
    >>> boxes("It is at (1 2), (30 40)."), boxes("[1, 2, 3]")
    ([(1.0, 2.0, 30.0, 40.0)], [])
    """
    text = ascii_forms(text)
    return json_regions(text, _boxes_of) or written_boxes(text)


def written_boxes(text: str) -> list[Box]:
    """The boxes of a text that are not JSON: in tags, else in brackets."""
    for pattern in (_TAGGED_BOX, _BRACKETED_BOX):
        matches = islice(pattern.finditer(text), MAX_REGIONS)
        if found := [box for match in matches if (box := as_box([float(side) for side in match.groups()]))]:
            return found
    return []


_UNIT = r"(?:\s?s(?:ec(?:ond)?s?)?)?+"
_TIME = r"(\d++(?:\.\d++)?+)"
_SECONDS = r"(?![\d:]|\s?(?:m(?:s|in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|frames?)\b)"  # not minutes, hours or milliseconds
_FIRST_TIME = r"(\d(?<![\w.:]\d)\d*+(?:\.\d++)?+)"  # a digit first and then the look behind it: faster to search
_BRACKETED_SPAN = re.compile(rf"[\[(]\s*+({_NUMBER}){_UNIT}\s*+,\s*+({_NUMBER}){_UNIT}\s*+[\])]")
_CLOCK = re.compile(r"\d(?<![\d:.]\d)\d{0,2}(?::[0-5]\d){1,2}(?:\.\d++)?+(?![\d:])")
_RANGE = re.compile(rf"{_FIRST_TIME}{_UNIT}\s?(?:to|until|till|[-–—])\s?{_TIME}{_SECONDS}")
_BETWEEN = re.compile(rf"between\s{_TIME}{_UNIT}\sand\s{_TIME}{_SECONDS}")
_AT = rf"[a-z_]{{0,5}}(?:\stime)?\W{{0,3}}(?:(?:at|is|about|around)\s)*+{_TIME}{_SECONDS}"
_START = re.compile(rf"(?:start|begin){_AT}")
_END = re.compile(rf"(?:end|finish|stop){_AT}")


def spans(text: str) -> list[Span]:
    """The (start, end) seconds of the time spans of an answer text in its order, reversed ends swapped.

    The first notation that occurs counts: JSON objects with one of SPAN_KEYS; [a, b]; clock times, two for a span;
    "a - b", "a to b", "between a and b"; "starts at a ... ends at b". Minutes and hours in words are not read.

    >>> spans("from 1:05 to 1:10.5"), spans("It starts at 3 s and ends around 7.5 s.")
    ([(65.0, 70.5)], [(3.0, 7.5)])
    >>> spans("between 4.5 and 2 seconds"), spans("at 3 s")
    ([(2.0, 4.5)], [])
    """
    text = ascii_forms(text).lower()
    found = (
        (json_regions(text, _spans_of) if "{" in text else [])
        or _pattern_spans(_BRACKETED_SPAN, text)
        or _clock_spans(text)
        or _pattern_spans(_BETWEEN, text)
        or _pattern_spans(_RANGE, text)
        or _start_end_spans(text)
    )
    return [(min(span), max(span)) for span in found]


def json_regions(text: str, read: Callable[[Any], Iterator[Region]]) -> list[Region]:
    """The items that `read` finds in the JSON of fenced blocks, or, if there are none, in that of the whole text."""
    fenced = text.split("```")[1::2][:MAX_REGIONS] if "```" in text else []
    for sources in (fenced, [text]):
        values = islice((value for source in sources for value in _json_values(source)), MAX_REGIONS)
        if found := list(islice((region for value in values for region in read(value)), MAX_REGIONS)):
            return found
    return []


def _json_values(text: str) -> Iterator[Any]:
    """The JSON lists and objects in a text, with every number a float."""
    position, broken = 0, 0
    while broken < MAX_BROKEN and (opening := _OPENING.search(text, position)):
        try:
            value, position = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):  # not JSON, or nested beyond reason
            position, broken = opening.end(), broken + 1
        else:
            yield value


_OPENING = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder(parse_int=float)


def _boxes_of(value: Any) -> Iterator[Box]:
    nodes = [value]
    while nodes:
        node = nodes.pop()
        if box := as_box(node):
            yield box
        elif isinstance(node, dict) and (key := first_key(node, BOX_KEYS)):
            nodes.append(node[key])
        else:
            nodes.extend(inner_values(node))


def _spans_of(value: Any) -> Iterator[Span]:
    nodes = [value]
    while nodes:
        node = nodes.pop()
        for start, end in SPAN_KEYS:
            if isinstance(node, dict) and start in node and end in node:
                yield from _span(_seconds(node[start]), _seconds(node[end]))
        nodes.extend(inner_values(node))


def inner_values(node: Any) -> list[Any]:
    """The lists and objects directly inside a JSON value, last first."""
    values = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    return [value for value in reversed(values) if isinstance(value, _NESTED)]


_NESTED = (list, dict)


def first_key(node: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    """The first of `keys` that an object has."""
    for key in keys:  # three times as fast as `next` over a generator
        if key in node:
            return key
    return None


def as_box(node: Any) -> Box | None:
    """[x1, y1, x2, y2] or [[x1, y1], [x2, y2]]; the JSON decoder makes every number a float."""
    if not isinstance(node, list):
        return None
    if len(node) == 2 and isinstance(node[0], list) and isinstance(node[1], list) and len(node[0]) == len(node[1]) == 2:
        node = [*node[0], *node[1]]
    if len(node) != 4:
        return None
    a, b, c, d = node
    if (
        type(a) is type(b) is type(c) is type(d) is float
        and isfinite(a)
        and isfinite(b)
        and isfinite(c)
        and isfinite(d)
    ):
        return (a, b, c, d)
    return None


def _seconds(value: Any) -> float | None:
    """A JSON value as seconds: a number, "12.5", "12.5 s" or "1:12.5"."""
    if isinstance(value, str):
        if _CLOCK.fullmatch(value.strip()):
            return _clock_seconds(value)
        plain = re.fullmatch(rf"{_TIME}{_UNIT}", value.strip())
        return float(plain[1]) if plain else None
    return value if isinstance(value, float) else None


def _clock_spans(text: str) -> list[Span]:
    times = [_clock_seconds(match.group()) for match in islice(_CLOCK.finditer(text), 2 * MAX_REGIONS)]
    return list(zip(times[::2], times[1::2], strict=False))


def _clock_seconds(clock: str) -> float:
    return sum(float(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))


def _pattern_spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    matches = islice(pattern.finditer(text), MAX_REGIONS)
    return [span for match in matches for span in _span(float(match[1]), float(match[2]))]


def _start_end_spans(text: str) -> list[Span]:
    found: list[Span] = []
    position = 0
    while (
        len(found) < MAX_REGIONS
        and (start := _START.search(text, position))
        and (end := _END.search(text, start.end()))
    ):
        found += _span(float(start[1]), float(end[1]))
        position = end.end()
    return found


def _span(start: float | None, end: float | None) -> list[Span]:
    """The span in a list, or an empty list where an end is missing or beyond the range of floats."""
    if start is None or end is None or not isfinite(start) or not isfinite(end):
        return []
    return [(start, end)]
