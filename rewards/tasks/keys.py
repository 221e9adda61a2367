"""The keys of gold answers: when the value of a key is well-formed, and how tables may write it."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Literal

from rewards.parse.calls import are_calls, gold_calls
from rewards.tasks.right_values import (
    Answer,
    are_boxes,
    are_labels,
    are_questions,
    are_rows,
    are_spans,
    are_step_scores,
    are_texts,
    is_candidate,
    is_choice,
    is_content,
    is_list,
    is_number,
    is_text,
)

ChoiceForm = Literal["letter", "index", "index_from_1", "text"]  # how a table says which option is right

OWN_LETTER = re.compile(  # of an option that brings it: "A. cat", "(B) dog", "(c) bus"
    r"\(?([A-Z]|[a-z](?=[.:)]+\s))[.:)]+\s*(.*)", re.DOTALL
)
STATED = re.compile(r"\W*(?:option\s+|choice\s+)?\(?([A-Z])[.:)]*\W*", re.IGNORECASE)  # a letter alone: "(B)", "b."
SEVERAL = re.compile(r"[A-Z](?:[\s,;&]*[A-Z])+")  # letters of more than one option: "A, C"


class GoldError(ValueError):
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
    """A key of gold answers. Both functions get the value and the whole answer; `shaped` raises GoldError."""

    name: str
    right: str = "anything"  # what a value must be, in words: "a finite number"
    is_right: Callable[[Any, Answer], bool] = _anything
    shaped: Callable[[Any, Answer], Any] = _as_it_is  # the value that a row of a table means: "yes" is True
    column: bool = False  # a column of this name in a table is part of the answer
    numbers: int = 0  # of regions: how many numbers a row of the value has


# what the value in a row of a table means


def listed(value: Any) -> Any:
    """The list in a text, as JSON or as Python writes it; any other value as it is.

    >>> listed("['a', 'b']"), listed("[1, 2]"), listed("[sic")
    (['a', 'b'], [1, 2], '[sic')
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return parse(value)
    return value


def nested(value: Any, width: int, rule: str) -> list[list[float]]:
    """A list of rows of `width` numbers; a single row is a list of one."""
    value = listed(value)
    rows = value if isinstance(value, list) and all(isinstance(row, list | Mapping) for row in value) else [value]
    rows = [_pair(row) if width == 2 and isinstance(row, Mapping) else row for row in rows]
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        raise GoldError(f"{rule}, got {value!r:.80}")
    return [[_number(number) for number in row] for row in rows]


def _pair(row: Mapping[str, Any]) -> Any:
    """A point or span as two numbers: {x, y}, {start, end}."""
    return next(([row[a], row[b]] for a, b in (("x", "y"), ("start", "end")) if {a, b} <= row.keys()), row)


def _number(value: Any, _: Any = None) -> float:
    try:
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise ValueError("Python reads these as numbers, people do not")
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise GoldError(f"{value!r:.80} is not a number") from None


def _finite(value: Any, _: Answer) -> float:
    if not math.isfinite(number := _number(value)):
        raise GoldError(f"{value!r:.80} is not a finite number")
    return number


def _yesno(value: Any, _: Answer) -> bool:
    read = {"yes": True, "true": True, "no": False, "false": False}.get(str(value).strip().lower())
    if read is None:
        raise GoldError(f"{value!r:.80} is neither yes nor no")
    return read


def _text(value: Any, _: Any = None) -> Any:
    """A whole number as its text."""
    return str(value) if type(value) is int else value


def _texts(value: Any, _: Answer) -> list[Any]:
    return [_text(_said(text)) for text in (value if isinstance(value, list) else [value])]


def _options(value: Any, _: Any = None) -> list[Any]:
    """The texts of the options; letters that they bring themselves, all in order, are left out."""
    given = listed(value)
    if isinstance(given, Mapping):
        by_letter = "".join(map(str, given)).upper() == ascii_uppercase[: len(given)] != ""
        value = [*given.values()] if by_letter else given.get("text")  # else of lists under text and label
    else:
        value = given
    if not isinstance(value, list):
        raise GoldError(f"options are a list of texts, or an object of them by A, B, ...; got {given!r:.80}")
    options = [_text(_said(option)) for option in value]
    if len(options) > len(ascii_uppercase):
        raise GoldError(f"{len(options)} options have no letters; a choice has at most {len(ascii_uppercase)}")
    return without_letters(options)


def _said(option: Any) -> Any:
    """The text of an option or answer that is an object."""
    keys = ("text", "choice", "content", "option", "answer", "caption", "value")
    return next((option[key] for key in keys if key in option), option) if isinstance(option, Mapping) else option


def without_letters(options: list[Any]) -> list[Any]:
    """The options without the letters that all of them bring, in order: "A. cat", "B. dog"."""
    hits = [OWN_LETTER.fullmatch(option) if isinstance(option, str) else None for option in options]
    own = [hit[1] if hit and hit[2].strip() else "" for hit in hits]
    if len(options) < 2 or "".join(own) not in (ascii_uppercase[: len(own)], ascii_lowercase[: len(own)]):
        return options
    return [hit[2].strip() for hit in hits if hit]


def _choice(value: Any, answer: Answer) -> str:
    """The letter of a choice given as a letter, as the text of an option, or as a number from 0.

    A value that may be read in two of these ways, and then names different options, is refused.
    """
    given = answer.get("options", [])
    options = _options(given)
    forms: tuple[ChoiceForm, ...] = ("letter", "index", "text")
    readings = {form: letter for form in forms if (letter := _letter(value, options, form))}
    if isinstance(value, str) and "text" not in readings:
        readings.pop("index", None)  # digits that no option reads: of a place from 0, or from 1
    if len(set(readings.values())) > 1:
        read = ", ".join(f"{letter} as {form}" for form, letter in readings.items())
        right = "say which in rows.answer: letter, index, index_from_1 or text"
        raise GoldError(f"{value!r:.80} is {read}, of the options {options!r:.200}; {right}")
    if readings:
        return next(iter(readings.values()))
    if isinstance(value, str) and re.fullmatch("[A-Z]", value):
        return value  # of no option, as `validate` says
    several = isinstance(value, str) and SEVERAL.fullmatch(value) is not None
    if several or (isinstance(value, list) and len(value) > 1):
        raise GoldError(f"a choice has one right option, got {value!r:.80}; split the row or drop it", "several_golds")
    hint = "; if it counts the options, set rows.answer: index or index_from_1" if _is_digits(value) else ""
    raise GoldError(f"{value!r:.80} is neither a letter nor one of the options {options!r:.200}{hint}")


def letter_of(value: Any, options: Any, form: ChoiceForm) -> str:
    """The letter of the option that a value names, read in the declared form alone.

    >>> letter_of("1", ["3", "0", "1"], "index"), letter_of("1", ["3", "0", "1"], "text")
    ('B', 'C')
    """
    texts = _options(options)
    letter = _letter(value, texts, form)
    if letter is None and form == "letter" and isinstance(value, str) and re.fullmatch("[A-Z]", value):
        return value  # of no option, as `validate` says
    if letter:
        return letter
    raise GoldError(f"{value!r:.80} is not the {form} of one of the options {texts!r:.200}")


def _letter(value: Any, options: list[Any], form: ChoiceForm) -> str | None:
    """The letter of the option that a value names in one form; None if it names none, or several."""
    known = ascii_uppercase[: len(options)]
    if form == "text":
        same = [place for place, option in enumerate(options) if option == _text(value)]
        return known[same[0]] if len(same) == 1 else None
    if form == "letter":
        whole = OWN_LETTER.fullmatch(value) if isinstance(value, str) else None
        if whole and whole[2].strip():  # a letter with its text: "B. dog"
            place = known.find(whole[1].upper())
            return known[place] if place >= 0 and options[place] == whole[2].strip() else None
        stated = STATED.fullmatch(value) if isinstance(value, str) else None
        return stated[1].upper() if stated and stated[1].upper() in known else None
    if isinstance(value, bool) or not (isinstance(value, int) or _is_digits(value)):
        return None
    place = int(value) - (form == "index_from_1")
    return known[place] if 0 <= place < len(known) else None


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.strip().isdigit()


def _calls(value: Any, _: Answer) -> list[Any]:
    try:
        return gold_calls(value)
    except ValueError as error:
        raise GoldError(str(error)) from None


def letters(answer: Answer) -> str:
    """The letters of the options of an answer; of options that are not known, the first four."""
    return ascii_uppercase[: len(answer.get("options") or "ABCD")]


CHOICE = AnswerKey(
    name="choice",
    right="the letter of one of at least two options: A, B, ...",
    is_right=is_choice,
    shaped=_choice,
)
OPTIONS = AnswerKey(name="options", shaped=_options, column=True)  # `choice` checks them
YESNO = AnswerKey(name="yesno", right="true or false", is_right=lambda value, _: isinstance(value, bool), shaped=_yesno)
NUMBER = AnswerKey(name="number", right="a finite number", is_right=is_number, shaped=_finite)
UNIT = AnswerKey(name="unit", column=True)
MATH = AnswerKey(name="math", right="a text that is not blank", is_right=is_text, shaped=_text)
SQL = AnswerKey(name="sql", right="a query", is_right=is_text)
TOOLS = AnswerKey(name="tools", right="calls, each {name, parameters}", is_right=are_calls, shaped=_calls)
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
    is_right=are_boxes,
    shaped=lambda value, _: nested(value, 4, "a box is four numbers, the corners x1, y1, x2, y2"),
    column=True,
    numbers=4,
)
LABELS = AnswerKey(
    name="labels",
    right="a list with one text for each box",
    is_right=are_labels,
    shaped=lambda value, _: listed(value),
    column=True,
)
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
    is_right=are_spans,
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
    name="questions", right="a list of {question, options, choice}", is_right=are_questions, column=True
)
CANDIDATES = AnswerKey(
    name="candidates", right="a list of at least two", is_right=lambda value, _: is_list(value, 2), column=True
)
PREFERRED = AnswerKey(name="preferred", right="the number of a candidate, from 0", is_right=is_candidate, column=True)
STEPS = AnswerKey(
    name="steps", right="a list of texts, none blank", is_right=lambda value, _: are_texts(value), column=True
)
STEP_SCORES = AnswerKey(
    name="step_scores", right="a number in [0, 1] or null for each step", is_right=are_step_scores, column=True
)
INSTRUCTION = AnswerKey(name="instruction", right="a text that is not blank", is_right=is_text)
SCORE = AnswerKey(name="score", right="a finite number", is_right=is_number)
CONTENT = AnswerKey(
    name="content",
    right="a list of {what, colour, count, perhaps place} as content_match reads it",
    is_right=is_content,
)

KEYS: dict[str, AnswerKey] = {  # of all tasks, and those that any answer may have
    key.name: key
    for key in (
        *(CHOICE, YESNO, NUMBER, MATH, TEXT, BOXES, LABELS, POINTS, SPANS, REFERENCES, QUESTIONS),
        *(CANDIDATES, PREFERRED, STEPS, STEP_SCORES, INSTRUCTION, SCORE, CONTENT, OPTIONS, UNIT),
    )
}
