"""Boxes and time spans read from an answer text: JSON first, then tags or clock times, then plain brackets and words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

Box = tuple[float, float, float, float]
Span = tuple[float, float]

BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box", "coordinates")
SPAN_KEYS = (("start", "end"), ("start_time", "end_time"))
MAX_BLOCKS = 16  # fenced blocks tried as JSON: an answer has one, a flood of them would only cost time

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
    text = text.replace("−", "-")
    for value in _json_values(text):
        if found := _json_boxes(value):
            return found
    for pattern in (_TAGGED_BOX, _BRACKETED_BOX):
        if found := [box for match in pattern.findall(text) if (box := _as_box([float(side) for side in match]))]:
            return found
    return []


_UNIT = r"\s?(?:s|secs?|seconds?)?"
_TIME = r"(\d++(?:\.\d++)?+)"
_BRACKETED_SPAN = re.compile(rf"[\[(]\s*+({_NUMBER}){_UNIT}\s*+,\s*+({_NUMBER}){_UNIT}\s*+[\])]")
_CLOCK = re.compile(r"(?<![\d:.])(?:(\d{1,3}):)?+(\d{1,3}):([0-5]\d(?:\.\d++)?+)(?![\d:])")
_RANGE = re.compile(
    rf"between\s{_TIME}{_UNIT}\sand\s{_TIME}(?![\d:])"
    rf"|(?<![\w.:]){_TIME}{_UNIT}\s?(?:to|until|till|-|–|—)\s?{_TIME}(?![\d:])"
)
_AT = rf"[a-z_]{{0,5}}(?:\stime)?\W{{0,3}}(?:(?:at|is|about|around)\s)*+{_TIME}(?![\d:])"
_START = re.compile(rf"(?:start|begin){_AT}")
_END = re.compile(rf"(?:end|finish|stop){_AT}")


def spans(text: str) -> list[Span]:
    """The (start, end) seconds of the time spans of an answer text in its order, reversed ends swapped.

    The first notation that occurs counts: JSON objects with one of SPAN_KEYS; [a, b]; clock times, two for a span;
    "a - b", "a to b", "between a and b"; "starts at a ... ends at b".

    >>> spans("from 1:05 to 1:10.5"), spans("It starts at 3 s and ends around 7.5 s.")
    ([(65.0, 70.5)], [(3.0, 7.5)])
    >>> spans("between 4.5 and 2 seconds"), spans("at 3 s")
    ([(2.0, 4.5)], [])
    """
    text = text.replace("−", "-").lower()
    found = _json_spans(text) or _bracketed_spans(text) or _clock_spans(text) or _worded_spans(text)
    return [(min(span), max(span)) for span in found]


def _json_values(text: str) -> Iterator[Any]:
    """What can be read as JSON in fenced blocks, then from the first bracket or brace on; numbers are floats."""
    for source in (*text.split("```")[1::2][:MAX_BLOCKS], text):
        for start in sorted({source.find("["), source.find("{")} - {-1}):
            try:
                value, _ = _DECODER.raw_decode(source, start)
            except (ValueError, RecursionError):  # not JSON, or nested beyond reason
                continue
            yield value


_DECODER = json.JSONDecoder(parse_int=float)


def _inner(node: Any) -> Iterator[Any]:
    """The lists and objects directly inside a JSON value, last first."""
    values = node.values() if isinstance(node, dict) else node
    return (value for value in reversed(values) if isinstance(value, list | dict))


def _json_boxes(value: Any) -> list[Box]:
    found: list[Box] = []
    stack = [value]
    while stack:
        node = stack.pop()
        if box := _as_box(node):
            found.append(box)
        elif isinstance(node, dict) and (key := next((key for key in BOX_KEYS if key in node), None)):
            stack.append(node[key])
        elif isinstance(node, list | dict):
            stack.extend(_inner(node))
    return found


def _as_box(node: Any) -> Box | None:
    """[x1, y1, x2, y2] or [[x1, y1], [x2, y2]]; the JSON decoder makes every number a float."""
    if not isinstance(node, list):
        return None
    if len(node) == 2 and all(isinstance(pair, list) and len(pair) == 2 for pair in node):
        node = [*node[0], *node[1]]
    if len(node) != 4 or not all(isinstance(side, float) and math.isfinite(side) for side in node):
        return None
    return (node[0], node[1], node[2], node[3])


def _json_spans(text: str) -> list[Span]:
    for value in _json_values(text):
        found: list[Span] = []
        stack = [value]
        while stack:
            node = stack.pop()
            if not isinstance(node, list | dict):
                continue
            for start, end in SPAN_KEYS:
                if isinstance(node, dict) and start in node and end in node:
                    found += _span(_seconds(node[start]), _seconds(node[end]))
            stack.extend(_inner(node))
        if found:
            return found
    return []


def _seconds(value: Any) -> float | None:
    """A JSON value as seconds: a number, "12.5", "12.5 s" or "1:12.5"."""
    if isinstance(value, str):
        clock = _CLOCK.fullmatch(value.strip())
        plain = re.fullmatch(rf"{_TIME}{_UNIT}", value.strip())
        return _clock_seconds(clock.groups("0")) if clock else float(plain[1]) if plain else None
    return value if isinstance(value, float) else None


def _bracketed_spans(text: str) -> list[Span]:
    return [span for start, end in _BRACKETED_SPAN.findall(text) for span in _span(float(start), float(end))]


def _clock_spans(text: str) -> list[Span]:
    times = [_clock_seconds(groups) for groups in _CLOCK.findall(text)]
    return list(zip(times[::2], times[1::2], strict=False))


def _clock_seconds(groups: Sequence[str]) -> float:
    hours, minutes, seconds = groups
    return float(hours or 0) * 3600 + float(minutes) * 60 + float(seconds)


def _worded_spans(text: str) -> list[Span]:
    ranges = [span for a, b, c, d in _RANGE.findall(text) for span in _span(float(a or c), float(b or d))]
    return ranges or _start_end_spans(text)


def _start_end_spans(text: str) -> list[Span]:
    found: list[Span] = []
    position = 0
    while (start := _START.search(text, position)) and (end := _END.search(text, start.end())):
        found += _span(float(start[1]), float(end[1]))
        position = end.end()
    return found


def _span(start: float | None, end: float | None) -> list[Span]:
    """The span in a list, or an empty list where an end is missing or beyond the range of floats."""
    if start is None or end is None or not math.isfinite(start) or not math.isfinite(end):
        return []
    return [(start, end)]
