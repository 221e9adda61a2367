"""The words and the numbers of a text, as counts, duplicates and checks compare them."""

from __future__ import annotations

import re
import unicodedata

SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts in which a character counts as a word
WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation.

    >>> words("Where's the RED bus?")
    ['where', 's', 'the', 'red', 'bus']
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def numbers(text: str) -> tuple[str, ...]:
    """The numbers of a text: questions with different numbers are different questions."""
    return tuple(NUMBER.findall(text))
