"""When the value of a key of an answer is well-formed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from rewards.tasks.content import COLOURS, PLACES, SHAPES, SQUARE

Answer = Mapping[str, Any]


def is_list(value: Any, least: int = 1) -> bool:
    """Whether the value is a list of at least so many items."""
    return isinstance(value, (list, tuple)) and len(value) >= least


def is_text(value: Any, _: Any = None) -> bool:
    """Whether the value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_number(value: Any, _: Any = None) -> bool:
    """Whether the value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def are_texts(value: Any, least: int = 1) -> bool:
    """Whether the value is a list of at least so many texts, none blank."""
    return is_list(value, least) and all(map(is_text, value))


def are_rows(value: Any, width: int) -> bool:
    """Whether the value is a list, perhaps empty, of rows of `width` finite numbers."""
    return is_list(value, 0) and all(
        is_list(row, width) and len(row) == width and all(map(is_number, row)) for row in value
    )


def are_boxes(value: Any, _: Answer) -> bool:
    """Whether the value is a list of boxes with area."""
    return are_rows(value, 4) and all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in value)


def are_spans(value: Any, _: Answer) -> bool:
    """Whether the value is a list of spans, the earliest first."""
    return are_rows(value, 2) and all(0 <= start < end for start, end in value) and sorted(value) == list(value)


def are_labels(value: Any, answer: Answer) -> bool:
    """Whether there is a text for each box of the answer."""
    boxes = answer.get("boxes", ())
    return are_texts(value, least=0) and is_list(boxes, 0) and len(value) == len(boxes)


def is_choice(value: Any, answer: Answer) -> bool:
    """Whether the value is the letter of one of the options."""
    options = answer.get("options")
    if not isinstance(options, (list, tuple)) or not are_texts(options, least=2):
        return False
    return len(options) <= len(ascii_uppercase) and value in list(ascii_uppercase[: len(options)])


def are_questions(value: Any, _: Answer) -> bool:
    """Whether the value is a list of questions with options."""
    return is_list(value, 0) and all(
        isinstance(entry, Mapping) and is_text(entry.get("question")) and is_choice(entry.get("choice"), entry)
        for entry in value
    )


def is_content(value: Any, _: Answer) -> bool:
    """Whether the value is a list of things that a picture is to show."""
    return is_list(value) and all(
        isinstance(entry, Mapping)
        and (entry.get("what") == SQUARE or str(entry.get("what")) in SHAPES)
        and entry.get("colour") in COLOURS
        and type(entry.get("count")) is int
        and entry["count"] > 0
        and ("place" not in entry or entry["place"] in PLACES)
        for entry in value
    )


def is_candidate(value: Any, answer: Answer) -> bool:
    """Whether the value is the number of a candidate."""
    candidates = answer.get("candidates", ())
    return type(value) is int and is_list(candidates, 0) and 0 <= value < len(candidates)


def are_step_scores(value: Any, answer: Answer) -> bool:
    """Whether there is a score in [0, 1], or none, for each step."""
    fits = is_list(value) and len(value) == len(answer.get("steps", ()))
    return fits and all(one is None or (is_number(one) and 0 <= one <= 1) for one in value)
