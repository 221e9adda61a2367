"""Gold answers as text: every way to write one, and how one is read out of the text of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rewards.parse.choices import choice_letter
from rewards.parse.objects import objects
from rewards.tasks.keys import Answer, GoldError

Rows = list[list[float]]
Place = Callable[[Rows], Rows]  # boxes or points in pixels, as they are written
Golds = Callable[[Answer, Place], list[str]]
Read = Callable[[Any, str], dict[str, Any]]

OPTION = re.compile(r"\(?([A-Z])[.:)]\s*(.+)")


def digits(number: float, *, trim: str = "-") -> str:
    """A number with all of its digits and no exponent; every reader of numbers gives the same number back.

    >>> digits(1234567.0), digits(0.25), digits(1e-07), digits(3)
    ('1234567', '0.25', '0.0000001', '3')
    """
    return str(number) if isinstance(number, int) else np.format_float_positional(number, trim=trim)  # pyright: ignore


def plain_json(value: Any) -> str:
    """Compact JSON without exponents.

    >>> plain_json([{"bbox_2d": [1, 2.5, 1e-07], "label": "cat"}])
    '[{"bbox_2d":[1,2.5,0.0000001],"label":"cat"}]'
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{plain_json(key)}:{plain_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(plain_json, value)) + "]"
    return digits(value, trim="0") if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


# how a gold is written: each function gives all texts that are right, the one to learn first


def numbers(answer: Answer, _: Place) -> list[str]:
    """The gold number; one that a file writes as a text stays as it is."""
    value = answer["number"]
    return [digits(value) if isinstance(value, int | float) else str(value)]


def yes_or_no(answer: Answer, _: Place) -> list[str]:
    """The word yes or no."""
    return [{True: "yes", False: "no"}.get(answer["yesno"], str(answer["yesno"]))]


def texts(key: str) -> Golds:
    """The gold text or texts under a key."""

    def written(answer: Answer, _: Place) -> list[str]:
        value = answer[key]
        return [str(text) for text in value] if isinstance(value, list | tuple) else [str(value)]

    return written


def each_box(answer: Answer, place: Place) -> list[str]:
    """Any of the boxes."""
    return [plain_json(box) for box in place(answer["boxes"])]


def labelled_boxes(answer: Answer, place: Place) -> list[str]:
    """All boxes with their labels."""
    pairs = zip(place(answer["boxes"]), answer["labels"], strict=True)
    return [plain_json([{"bbox_2d": box, "label": label} for box, label in pairs])]


def all_points(answer: Answer, place: Place) -> list[str]:
    """All points; a single one as it is."""
    points = place(answer["points"])
    return [plain_json(points[0] if len(points) == 1 else points)]


def each_span(answer: Answer, _: Place) -> list[str]:
    """Any of the spans, in seconds."""
    return [plain_json(span) for span in answer["spans"]]


def calls(answer: Answer, _: Place) -> list[str]:
    """All calls of tools, one JSON object a line, in ToolRL's form (2504.13958)."""
    lines = [plain_json({"name": call["name"], "parameters": call["parameters"]}) for call in answer["tools"]]
    return ["\n".join(["<tool_call>", *lines, "</tool_call>"])]


def chain(answer: Answer) -> str:
    """What a verifier says of an edit, by Edit-RRM's parse contract (2604.27505): its checklist, then its score.

    >>> chain({"instruction": "Red.", "principles": [{"question": "done", "score": 1}], "score": 8.0})
    '[{"question":"done","score":1}]<score>8</score>'
    """
    checklist = [{"question": entry["question"], "score": entry["score"]} for entry in answer["principles"]]
    return f"{plain_json(checklist)}<score>{answer['score']:g}</score>"


# how a gold is read out of an answer (a text, a number or a list) to a question: what a row would say


def as_it_is(value: Any, _: str) -> dict[str, Any]:
    """The answer is the gold."""
    return {"answer": value}


def chosen(value: Any, question: str) -> dict[str, Any]:
    """The option that an answer names, and the options, from the lettered lines of the question."""
    options = lettered(question)
    if len(options) < 2:
        right = 'its options in lines "A. cat", "B. dog", below the question'
        raise GoldError(f"task choice needs {right}, got {question!r:.120}", "no_answer")
    if not isinstance(value, str):
        return {"answer": value, "options": options}
    letter = choice_letter(value, "".join(chr(ord("A") + place) for place in range(len(options))), options)
    if letter is None:
        raise GoldError(f"{value!r:.80} names none of the options {options!r:.200}")
    return {"answer": letter, "options": options}


def lettered(question: str) -> list[str]:
    """The options of a question: its last lines "A. cat", "(B) dog", "C) ...", one below the other, if it has some.

    >>> lettered("Which is it?\\nA. a cat\\n(B) a dog\\nAnswer with the letter.")
    ['a cat', 'a dog']
    """
    lines = [OPTION.fullmatch(line.strip()) for line in question.splitlines() if line.strip()]
    letters = [line[1] if line else "" for line in lines]
    start = len(letters) - letters[::-1].index("A") - 1 if "A" in letters else len(letters)
    options: list[str] = []
    for line in lines[start:]:
        if not line or line[1] != chr(ord("A") + len(options)):
            break
        options.append(line[2])
    if chr(ord("A") + len(options)) in letters[start:]:
        return []  # an option has several lines
    return options


def located(task: str, parse: Callable[[str], Sequence[Sequence[float]]]) -> Read:
    """The boxes, points or spans that `parse` finds in an answer."""
    return lambda value, _: {"answer": [list(row) for row in _found(task, parse, value)]}


def labelled(value: Any, _: str) -> dict[str, Any]:
    """The boxes in an answer, each with its label."""
    found = _found("detection", objects, value)
    if not all(item.label for item in found):
        right = '[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}]'
        raise GoldError(f"task detection needs a label with each box, {right}; got {_written(value)!r:.120}")
    return {"boxes": [list(item.box) for item in found], "labels": [item.label for item in found]}


def _found(task: str, parse: Callable[[str], Sequence[Any]], value: Any) -> Sequence[Any]:
    written = _written(value)
    if not (found := parse(written)):
        raise GoldError(f"task {task} needs coordinates in the answer, got {written!r:.120}")
    return found


def _written(value: Any) -> str:
    """A text, or a value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
