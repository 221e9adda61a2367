"""Reads the cells of a row, and writes the prompts that many benchmarks share."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from eval.benchmarks.base import Medium, Row
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

LETTER_ONLY = "Answer with the option's letter from the given choices directly."
SHORT = "Answer the question using a single word or phrase."
SPACES = {
    CoordinateSpace.pixel: "in pixels of the original image",
    CoordinateSpace.resized: "in pixels of the image as you see it",
    CoordinateSpace.unit: "as fractions of the image's width and height, from 0 to 1",
    CoordinateSpace.per_mille: "scaled to 0 to 1000 of the image's width and height",
}


def picture(value: Any) -> tuple[Medium, ...]:
    """The image in a cell (bytes, a path, or a mapping with one of them) as a tuple of one; empty if there is none."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None or value in ("", b""):
        return ()
    if not isinstance(value, bytes | str):
        raise InputError(f"an image cell holds {type(value).__name__}; expected bytes, a path, or a mapping with them")
    return (Medium(value),)


def picture_name(value: Any, digits: int = 12) -> str:
    """The first digits of the hash of the image in a cell, for the names of items."""
    source = media[0].source if (media := picture(value)) else b""
    return hashlib.sha256(source if isinstance(source, bytes) else source.encode()).hexdigest()[:digits]


def clip(row: Row, column: str = "video") -> Medium:
    """The video of a row, from `start` to `end` if the row has them."""
    return Medium(str(row[column]), "video", _seconds(row.get("start")), _seconds(row.get("end")))


def choice_text(question: str, options: Sequence[str], *, hint: str = "", ask: str = LETTER_ONLY) -> str:
    """A multiple-choice prompt: hint, question, options as `A. text` lines, and how to answer."""
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join(line for line in [hint, question, *lines, ask] if line)


def choice_answer(options: Sequence[str], right: int) -> dict[str, Any]:
    """The gold answer of a choice, from the index of the right option."""
    if not 0 <= right < len(options):
        raise InputError(f"the right option {right} is not among the {len(options)} options {list(options)}")
    return {"choice": ascii_uppercase[right], "options": list(options)}


def letter_index(letter: Any) -> int:
    """The index of an option letter (`B`, `(B)`, `b`).

    >>> letter_index("(B)")
    1
    """
    plain = str(letter).strip().strip("().").upper()
    if len(plain) != 1 or plain not in ascii_uppercase:
        raise InputError(f"the answer {letter!r} is not an option letter")
    return ascii_uppercase.index(plain)


def listed(value: Any) -> list[Any]:
    """The list in a cell: a list, an array, or its text in JSON or Python.

    >>> listed("['a', 'b']"), listed('["a"]'), listed(("a",))
    (['a', 'b'], ['a'], ['a'])
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise InputError(f"expected a list, got the text {value[:80]!r}") from None
    if not isinstance(value, list | tuple):
        raise InputError(f"expected a list, got {value!r:.80}")
    return list(value)


def listed_texts(value: Any) -> list[str]:
    """The list in a cell (see `listed`), its entries as texts."""
    return [str(entry) for entry in listed(value)]


def yes_or_no(value: Any) -> bool:
    """Whether a gold answer is yes: the word, 1 or 0, true or false.

    >>> yes_or_no("Yes"), yes_or_no(0)
    (True, False)
    """
    plain = re.sub(r"\W", "", str(value)).lower()
    if plain not in ("yes", "no", "1", "0", "true", "false"):
        raise InputError(f"the answer {value!r} is neither yes nor no")
    return plain in ("yes", "1", "true")


def _seconds(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)
