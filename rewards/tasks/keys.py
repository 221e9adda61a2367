"""The keys of gold answers: when the value of a key is well-formed, and how tables may write it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

Answer = Mapping[str, Any]

SEVERAL = re.compile(r"[A-Z](?:[\s,;&]*[A-Z])+")  # letters of more than one option: "A, C"


class BadAnswer(ValueError):  # noqa: N818 - it is named like its reason
    """A value that cannot become a gold answer: `reason` is the code that is counted."""

    def __init__(self, message: str, reason: str = "bad_answer") -> None:
        super().__init__(message)
        self.reason = reason


def _anything(*_: Any) -> bool:
    return True


def _as_it_is(value: Any, _: Answer) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKey:
    """A key of gold answers. Both functions get the value and the whole answer; `shaped` raises BadAnswer."""

    name: str
    right: str = "anything"  # what a value must be, in words: "a finite number"
    is_right: Callable[[Any, Answer], bool] = _anything
    shaped: Callable[[Any, Answer], Any] = _as_it_is  # the value that a row of a table means: "yes" is True
    column: bool = False  # a column of this name in a table is part of the answer
    numbers: int = 0  # of regions: how many numbers a row of the value has


# when a value is well-formed


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


def _are_boxes(value: Any, _: Answer) -> bool:
    return are_rows(value, 4) and all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in value)


def _are_spans(value: Any, _: Answer) -> bool:
    return are_rows(value, 2) and all(0 <= start < end for start, end in value) and sorted(value) == list(value)


def _are_labels(value: Any, answer: Answer) -> bool:
    boxes = answer.get("boxes", ())
    return are_texts(value, least=0) and is_list(boxes, 0) and len(value) == len(boxes)


def _is_choice(value: Any, answer: Answer) -> bool:
    options = answer.get("options")
    if not isinstance(options, (list, tuple)) or not are_texts(options, least=2):
        return False
    return value in [chr(ord("A") + place) for place in range(len(options))]


def _are_questions(value: Any, _: Answer) -> bool:
    return is_list(value, 0) and all(
        isinstance(entry, Mapping) and is_text(entry.get("question")) and _is_choice(entry.get("choice"), entry)
        for entry in value
    )


def _is_candidate(value: Any, answer: Answer) -> bool:
    candidates = answer.get("candidates", ())
    return type(value) is int and is_list(candidates, 0) and 0 <= value < len(candidates)


# what the value in a row of a table means


def nested(value: Any, width: int, rule: str) -> list[list[float]]:
    """A list of rows of `width` numbers; a single row is a list of one."""
    rows = value if isinstance(value, list) and all(isinstance(row, list) for row in value) else [value]
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        raise BadAnswer(f"{rule}, got {value!r:.80}")
    return [[_number(number) for number in row] for row in rows]


def _number(value: Any, _: Any = None) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadAnswer(f"{value!r:.80} is not a number") from None


def _yesno(value: Any, _: Answer) -> bool:
    read = {"yes": True, "true": True, "no": False, "false": False}.get(str(value).strip().lower())
    if read is None:
        raise BadAnswer(f"{value!r:.80} is neither yes nor no")
    return read


def _text(value: Any, _: Any = None) -> Any:
    """A whole number as its text."""
    return str(value) if type(value) is int else value


def _texts(value: Any, _: Answer) -> list[Any]:
    return list(map(_text, value if isinstance(value, list) else [value]))


def _options(value: Any, _: Any = None) -> list[Any]:
    if not isinstance(value, list):
        raise BadAnswer(f"options are a list of texts, got {value!r:.80}")
    return list(map(_text, value))


def _choice(value: Any, answer: Answer) -> str:
    """The letter of a choice given as a letter, as the text of an option, or as a number from 0.

    Of options that are numbers, one that could be meant either way is refused.
    """
    given = answer.get("options", [])
    options = _options(given)
    places = [place for place, option in enumerate(given) if type(value) is type(option) is int and value == option]
    if places and places != [value] and 0 <= value < len(options):
        raise BadAnswer(f"{value} is an option and may be the number of another, from 0; give its letter")
    if len(places) == 1:
        return chr(ord("A") + places[0])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
        return chr(ord("A") + value)
    if isinstance(value, str) and options.count(value) == 1:
        return chr(ord("A") + options.index(value))
    if isinstance(value, str) and re.fullmatch("[A-Z]", value):
        return value
    letters = isinstance(value, str) and SEVERAL.fullmatch(value) is not None
    if letters or (isinstance(value, list) and len(value) > 1):
        raise BadAnswer(f"a choice has one right option, got {value!r:.80}; split the row or drop it", "several_golds")
    raise BadAnswer(f"{value!r:.80} is neither a letter nor one of the options {options!r:.200}")


def letters(answer: Answer) -> str:
    """The letters of the options of an answer; of options that are not known, the first four."""
    return ascii_uppercase[: len(answer.get("options") or "ABCD")]


CHOICE = AnswerKey(
    name="choice",
    right="the letter of one of at least two options: A, B, ...",
    is_right=_is_choice,
    shaped=_choice,
)
OPTIONS = AnswerKey(name="options", shaped=_options, column=True)  # `choice` checks them
YESNO = AnswerKey(name="yesno", right="true or false", is_right=lambda value, _: isinstance(value, bool), shaped=_yesno)
NUMBER = AnswerKey(name="number", right="a finite number", is_right=is_number, shaped=_number)
UNIT = AnswerKey(name="unit", column=True)
MATH = AnswerKey(name="math", right="a text that is not blank", is_right=is_text, shaped=_text)
SQL = AnswerKey(name="sql", right="a query", is_right=is_text)
DATABASE = AnswerKey(name="database", right="the statements that make a database", is_right=is_text, column=True)
TEXT = AnswerKey(
    name="text",
    right="a list of texts, none blank",
    is_right=lambda value, _: are_texts(value),
    shaped=_texts,
)
BOXES = AnswerKey(
    name="boxes",
    right="a list of [x1, y1, x2, y2] with x1 < x2 and y1 < y2",
    is_right=_are_boxes,
    shaped=lambda value, _: nested(value, 4, "a box is four numbers, the corners x1, y1, x2, y2"),
    column=True,
    numbers=4,
)
LABELS = AnswerKey(name="labels", right="a list with one text for each box", is_right=_are_labels, column=True)
POINTS = AnswerKey(
    name="points",
    right="a list of [x, y]",
    is_right=lambda value, _: are_rows(value, 2),
    shaped=lambda value, _: nested(value, 2, "a point is two numbers"),
    column=True,
    numbers=2,
)
SPANS = AnswerKey(
    name="spans",
    right="a list of [start, end] in seconds, 0 <= start < end, the earliest first",
    is_right=_are_spans,
    shaped=lambda value, _: nested(value, 2, "a span is [start, end] in seconds"),
    column=True,
    numbers=2,
)
REFERENCES = AnswerKey(
    name="references",
    right="a list of texts, none blank",
    is_right=lambda value, _: are_texts(value, least=0),
    shaped=_texts,
)
QUESTIONS = AnswerKey(
    name="questions", right="a list of {question, options, choice}", is_right=_are_questions, column=True
)
CANDIDATES = AnswerKey(
    name="candidates", right="a list of at least two", is_right=lambda value, _: is_list(value, 2), column=True
)
PREFERRED = AnswerKey(name="preferred", right="the number of a candidate, from 0", is_right=_is_candidate, column=True)
INSTRUCTION = AnswerKey(name="instruction", right="a text that is not blank", is_right=is_text)
SCORE = AnswerKey(name="score", right="a finite number", is_right=is_number)

KEYS: dict[str, AnswerKey] = {  # of all tasks, and those that any answer may have
    key.name: key
    for key in (
        *(CHOICE, YESNO, NUMBER, MATH, TEXT, BOXES, LABELS, POINTS, SPANS, REFERENCES, QUESTIONS),
        *(CANDIDATES, PREFERRED, INSTRUCTION, SCORE, OPTIONS, UNIT),
    )
}
