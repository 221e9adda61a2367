"""The gold in the text of an answer: what tasks with options, boxes, points or spans read out of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from data_engine.schema import ANSWER_KEYS
from data_engine.seeding import letter
from data_engine.sources.base import RowError
from mmrl.core.config import InputError, nearest
from rewards.parse.extract import choice_letter
from rewards.parse.objects import objects, points
from rewards.parse.regions import boxes, spans

PLACES: dict[str, Callable[[str], Sequence[Any]]] = {"grounding": boxes, "temporal": spans, "point": points}
NOT_TOLD = ("preference",)  # tasks whose answer needs more than one text
OPTION = re.compile(r"\(?([A-Z])[.:)]\s*(.+)")


def check_task(task: str) -> str:
    """The task, if the text of an answer can give its gold."""
    fit = [name for name in ANSWER_KEYS if name not in NOT_TOLD]
    if task not in fit:
        why = (
            f"its answer, {', '.join(ANSWER_KEYS[task])}, is no text"
            if task in ANSWER_KEYS
            else "there is no such task"
        )
        raise InputError(f"task {task} cannot be read from answers: {why}; {nearest(task, fit)}")
    return task


def gold(task: str, value: Any, question: str) -> dict[str, Any]:
    """The columns of a row that say the gold: `value`, a text, number or list, answers a question of that text."""
    if task == "choice":
        return _chosen(value, question)
    if task == "detection":
        return _labelled(_written(value))
    if task not in PLACES:
        return {"answer": value}
    return {"answer": [list(one) for one in _found(task, PLACES[task], _written(value))]}


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
        if not line or line[1] != letter(len(options)):
            break
        options.append(line[2])
    if letter(len(options)) in letters[start:]:
        return []  # an option goes on over several lines
    return options


def _chosen(value: Any, question: str) -> dict[str, Any]:
    options = lettered(question)
    if len(options) < 2:
        right = 'its options in lines "A. cat", "B. dog", below the question'
        raise RowError("no_answer", f"task choice needs {right}, got {question!r:.120}")
    if not isinstance(value, str):
        return {"answer": value, "options": options}
    named = choice_letter(value, "".join(map(letter, range(len(options)))), options)
    if named is None:
        raise RowError("bad_answer", f"{value!r:.80} names none of the options {options!r:.200}")
    return {"answer": named, "options": options}


def _labelled(written: str) -> dict[str, Any]:
    found = _found("detection", objects, written)
    if not all(one.label for one in found):
        right = '[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}]'
        raise RowError("bad_answer", f"task detection needs a label with each box, {right}; got {written!r:.120}")
    return {"boxes": [list(one.box) for one in found], "labels": [one.label for one in found]}


def _found(task: str, find: Callable[[str], Sequence[Any]], written: str) -> Sequence[Any]:
    if not (found := find(written)):
        raise RowError("bad_answer", f"task {task} needs coordinates in the answer, got {written!r:.120}")
    return found


def _written(value: Any) -> str:
    """A text, or a value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
