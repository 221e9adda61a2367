"""Boxes read from an answer text: JSON first, then tags, then brackets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import Any, TypeVar

from rewards.parse.extract import ascii_forms

Box = tuple[float, float, float, float]
Region = TypeVar("Region")

CORNERS = (  # names of the sides of a box
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
Y_FIRST = ("box_2d", "bbox_yxyx", "yxyx")  # [y1, x1, y2, x2]; box_2d is what Gemini writes
BY_SIZE = {  # [x, y, width, height] -> where in the box x and y are: its corner or its middle
    **dict.fromkeys(("bbox_xywh", "box_xywh", "xywh"), 0.0),
    **dict.fromkeys(("bbox_cxcywh", "box_cxcywh", "cxcywh"), 0.5),
}
BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box", "coordinates", "bbox_xyxy", "xyxy", *Y_FIRST[1:], *BY_SIZE)
SIZED = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
MAX_REGIONS = 1000  # an answer names a few; more, or much broken JSON, would only cost time
MAX_BROKEN = 3

_NUMBER = r"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+"
_COMMA = r"(?:\s*+,\s*+|\s++)"
_MIDDLE = rf"(?:\s*+[\])]\s*+,?+\s*+[\[(]\s*+|{_COMMA})"  # nested pairs: [[x1, y1], [x2, y2]] or (x1,y1),(x2,y2)
_CORNERS = rf"({_NUMBER}){_COMMA}({_NUMBER}){_MIDDLE}({_NUMBER}){_COMMA}({_NUMBER})"
_TAGGED_BOX = re.compile(rf"<(?:b?box|\|box_start\|)>[\[(\s]*+{_CORNERS}[\])\s]*+<(?:/b?box|\|box_end\|)>")
_SIDE = rf"\s?['\"]?\s?[=:]\s?({_NUMBER})['\"]?[\s,;]*+(?:and\s)?['\"]?"
_NAMED_BOX = re.compile(
    rf"\b(?:x1{_SIDE}y1{_SIDE}x2{_SIDE}y2{_SIDE}|x_?min{_SIDE}y_?min{_SIDE}x_?max{_SIDE}y_?max{_SIDE})"
)
_SIZE_NAMED = re.compile(r"\bx\W{1,4}y\W{1,4}w(?:idth)?\W{1,4}h(?:eight)?\b", re.IGNORECASE)
_Y_NAMED = re.compile(r"\by_?(?:min|1)\W{1,4}x_?(?:min|1)\W{1,4}y_?(?:max|2)\W{1,4}x_?(?:max|2)\b", re.IGNORECASE)
_PAIR = rf"[\[(]\s*+{_NUMBER}{_COMMA}{_NUMBER}\s*+[\])]"
_POLYGON = re.compile(rf"{_PAIR}(?:(?:\s*+,\s*+|\s*+){_PAIR}){{3,99}}+")  # so many corners are no two boxes
_BRACKETED_BOX = re.compile(rf"[\[(]\s*+(?:[\[(]\s*+)?+{_CORNERS}\s*+[\])]")


def boxes(text: str) -> list[Box]:
    r"""The boxes of an answer text in its order, corners as written. The first notation that occurs counts:

    JSON, fenced or bare (lists, or objects with one of BOX_KEYS), `<box>(x1,y1),(x2,y2)</box>`, bracketed quadruples.
    Four or more corners are a polygon: the box around them. Under a key of Y_FIRST, y comes before x.

    >>> boxes('```json\n[{"bbox_2d": [1, 2.5, 3e1, 40], "label": "cat"}]\n```')
    [(1.0, 2.5, 30.0, 40.0)]
    >>> boxes("It is at (1 2), (30 40)."), boxes("[1, 2, 3]")
    ([(1.0, 2.0, 30.0, 40.0)], [])
    """
    text = ascii_forms(text)
    found = json_regions(text, _boxes_of) or written_boxes(text)
    return list(map(headed(text), found))


def headed(text: str) -> Callable[[Box], Box]:
    """How the boxes of a text become corners, x first, if its words name the order of their numbers.

    >>> headed("[ymin, xmin, ymax, xmax]")((2, 1, 4, 3)), headed("[x, y, w, h]")((1, 2, 10, 10))
    ((1, 2, 3, 4), (1, 2, 11, 12))
    """
    if _Y_NAMED.search(text):
        return lambda box: (box[1], box[0], box[3], box[2])
    if _SIZE_NAMED.search(text):
        return lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    return lambda box: box


def written_boxes(text: str) -> list[Box]:
    """The boxes of a text that are not JSON: in tags, else around the corners of polygons, else by named sides or
    in brackets."""
    for pattern in (_TAGGED_BOX, _NAMED_BOX, _BRACKETED_BOX):
        if pattern is _BRACKETED_BOX and (polygon := _POLYGON.search(text)):
            sides = [float(side) for side in re.findall(_NUMBER, polygon[0])]
            return [hull(list(zip(sides[::2], sides[1::2], strict=True)))]
        matches = islice(pattern.finditer(text), MAX_REGIONS)
        if found := [box for match in matches if (box := as_box([float(side) for side in match.groups() if side]))]:
            return found
    return []


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
            nodes.append(under_key(key, node[key]))
        else:
            nodes.extend(inner_values(node) or by_sides(node))


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


def under_key(key: str, node: Any) -> Any:
    """What an object has under a key of BOX_KEYS, with corners, x first: the key says how it is written.

    >>> under_key("box_2d", [1, 2, 3, 4]), under_key("bbox_xywh", [10, 10, 5, 5])
    ([2, 1, 4, 3], [10.0, 10.0, 15.0, 15.0])
    """
    if key in Y_FIRST:
        return x_first(node)
    return cornered(node, BY_SIZE[key]) if key in BY_SIZE else node


def cornered(node: Any, share: float) -> Any:
    """[x, y, width, height], or a list of such, as corners; `share` of a box lies before its x and y."""
    if not isinstance(node, list) or not all(isinstance(side, int | float) for side in node) or len(node) != 4:
        return [cornered(inner, share) for inner in node] if isinstance(node, list) else node
    x, y, width, height = node
    return [x - share * width, y - share * height, x + (1 - share) * width, y + (1 - share) * height]


def x_first(node: Any) -> Any:
    """A box, a corner, or several of them, that have y first, with x first."""
    if not isinstance(node, list):
        return node
    if any(isinstance(inner, list) for inner in node):
        return [x_first(inner) for inner in node]
    return [node[1], node[0], node[3], node[2]] if len(node) == 4 else node[::-1] if len(node) == 2 else node


def by_sides(node: Any) -> list[Any]:
    """The box of an object that names its sides, in a list."""
    if not isinstance(node, dict):
        return []
    sides = [[node[name] for name in names] for names in CORNERS if all(name in node for name in names)]
    sized = [[node[name] for name in names] for names in SIZED if all(name in node for name in names)]
    return sides[:1] or [cornered(box, 0.0) for box in sized[:1]]


def hull(corners: Sequence[Sequence[float]]) -> Box:
    """The box around points."""
    xs, ys = [corner[0] for corner in corners], [corner[1] for corner in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def are_corners(node: Any) -> bool:
    """Whether a JSON value is a polygon: at least four points."""
    return (
        isinstance(node, list)
        and len(node) > 3
        and all(
            isinstance(row, list)
            and len(row) == 2
            and type(row[0]) is type(row[1]) is float
            and isfinite(row[0] + row[1])
            for row in node
        )
    )


def as_box(node: Any) -> Box | None:
    """[x1, y1, x2, y2], [[x1, y1], [x2, y2]], or four or more corners; the JSON decoder makes every number a float."""
    if not isinstance(node, list):
        return None
    if len(node) > 3 and isinstance(node[0], list) and are_corners(node):
        return hull(node)
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
