"""The worker process of `math_match`: math-verify, which never ends on some expressions.

Why a process of its own: only a kill stops sympy in the middle of an expression, and a worker that stays answers in 1
to 50 ms, of which the question takes at most 0.1.
"""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from rewards.parse.extract import with_commas

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns at each call that the deadline is ours

_DOLLAR = re.compile(r"(?<!\\)\\\$")  # of a price, which delimits nothing
_MATRIX = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]?matrix|array)\}(?:\{[lcr|]*+\})?+")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed|\\begin\{")
_PROSE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3}")
_LOOKED_AT = 2000  # characters at the end of a text; answers stand there


def same(question: tuple[str, str]) -> bool | str:
    """Whether an answer equals the gold expression; "gold" or "answer" names the one of them that cannot be read."""
    gold, answer = question
    right = _gold(gold)
    if not right:
        return "gold"
    parsed = _parsed(answer)
    return verify(list(right), parsed, timeout_seconds=0) if parsed else "answer"


@functools.lru_cache(maxsize=4096)
def _gold(text: str) -> tuple[Any, ...]:
    return tuple(_parsed(text))


def _parsed(text: str) -> list[Any]:
    """The expressions that math-verify finds; a text without words and delimiters is one expression as a whole."""
    text = with_commas(_DOLLAR.sub("", text[-_LOOKED_AT:]))
    bare = _MATRIX.sub("", text)
    if not _DELIMITED.search(bare) and not _PROSE.search(bare):
        text = f"${text}$"
    return parse(text, (LatexExtractionConfig(), ExprExtractionConfig()), parsing_timeout=0, raise_on_error=False)
