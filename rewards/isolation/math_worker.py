"""The worker process of `math_match`: math-verify, which never ends on some expressions.

Why a process of its own: only a kill stops sympy in the middle of an expression, and a worker that stays answers in 1
to 50 ms, of which the question takes at most 0.1. An expression is parsed as a whole or not at all: what the grammar
cannot take is never cut off. Numbers are compared by our rule, which is put in the place of math-verify's (it rounds to
6 places, so all small numbers are equal there).
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import math_verify.grader as grader
import sympy
from latex2sympy2_extended.latex2sympy2 import convert_to_pct, latex2sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from rewards.parse import boxed, tex
from rewards.parse.units import Unit, agree

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns at each call that the deadline is ours

CLOSE = 1e-6  # how far a decimal may be from the gold: as math-verify rounds, ...
CLOSE_SMALL = 1e-4  # ... and for golds below 0.01 this share of them
CLOSE_TO_0 = 1e-9  # how far from a gold of 0
EXACT = 1e-14  # of a decimal with more digits than CLOSE asks for, what floats carry
SAME = 1e-45  # numbers without decimals are equal to so many digits, or differ
MOST_PARTS = 12  # values of an answer that are compared one by one

_CLEAN = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_TARGETS = (LatexExtractionConfig(normalization_config=_CLEAN), ExprExtractionConfig())
_MATRIX = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]?matrix|array)\}(?:\{[lcr|]*+\})?+")
_PROSE = re.compile(
    r"(?<![\\a-zA-Z])(?!x\b)[a-zA-Z\u00c0-\u024f]{3}|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]"
)
_NO_WORDS = re.compile(r"\\text\{[^{}]*\}|_\s?\{[^{}]*\}|\\[a-zA-Z]+|\b[A-Z]{3,5}\b")
_DELIMITERS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_DELIMITED = re.compile(r"(?<!\\)\$\$?([^$]+)(?<!\\)\$?\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_STATED = re.compile(
    r"(?=(?:answer|result|solution|value|antwort|ergebnis|lösung|réponse|résultat|respuesta|resultado|答案|结果|結果|答え|答)"
    r"[^.\n=:是为為は]{0,25}?(?:\bis\b|\bare\b|\bist\b|\best\b|\bes\b|=|:|是|为|為|は)+[\s*:]*(?P<rest>[^\n]{1,200}))",
    re.IGNORECASE,
)
_WORDS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2}")
_HAS_WORDS = re.compile(r"[^\W\d_]{2}")
_WORD = re.compile(r"[^\W\d_]{3,40}")
_LIST = re.compile(r"(?<![\d./])-?\d[\d./]*+(?:\s*+,\s++-?\d[\d./]*+)++")
_OR = re.compile(r"(?<![a-zA-Z])(?:or|oder|ou|o)(?![a-zA-Z])|或|または|또는|\\lor|∨")
_INDEXED = re.compile(r"\\(?:sum|prod|bigcup|bigcap)|_\s?\{?i|(?<![a-zA-Z\\])i\s?(?:=|\\in)")  # where i is a number
_IMAGINARY = re.compile(r"(?<![a-zA-Z\\_])(?<!_\{)i(?![a-zA-Z])")
_DECIMAL_COMMA = re.compile(
    r"\s*[-+$€]?\s?\d+,(?:\d{1,2}|\d{4,})\s?(?:[$€]|\\?%)?\s*"
)  # 2,74 may be 2.74, or two values
_ONE_PLACE = re.compile(r",\d(?!\d)")
_EULER = re.compile(r"(?<![\w.])([2-9]|\d{2,})e(-\d)(?![\w.])")  # 2e-3 may be a number, or twice Euler's less 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says: the values one by one, and the expression of all of them."""

    parts: tuple[tex.Part, ...]
    whole: Any
    text: str
    said: str = ""


def same(question: tuple[str, str]) -> bool | str:
    """Whether an answer equals the gold expression; "gold" or "answer" names the one of them that cannot be read."""
    gold, answer = question
    rights = _gold(gold)
    if not rights:
        return "gold"
    numeric = len(rights[0].parts) == 1 and not any(_lettered(right.parts[0].body) for right in rights)
    said = readings(answer, glued=numeric)
    return any(_equal(right, one) for right in rights for one in said) if said else "answer"


@functools.lru_cache(maxsize=4096)
def _gold(text: str) -> tuple[Reading, ...]:
    """The readings of a gold answer; none if it cannot be read, or not all of it."""
    return readings(text, gold=True)


def readings(text: str, *, gold: bool = False, glued: bool = False) -> tuple[Reading, ...]:
    """What a text may say; nothing if it is no expression. A gold is not picked out of words with numbers."""
    box = boxed.boxes(text, gold=gold)
    said = (text if box is None else box)[-tex.LOOKED_AT :]
    forms = [said]
    if _DECIMAL_COMMA.fullmatch(said) and (glued or not _ONE_PLACE.search(said)):
        forms.append(said.replace(",", "."))
    if _EULER.search(said):
        forms.append(_EULER.sub(r"\1\\mathrm{e}\2", said))
    found = [reading for form in forms if (reading := _expression(form, glued))]
    worded = _NO_WORDS.sub("", said)
    if not found and box is None and _HAS_WORDS.search(worded) and (reading := _out_of_words(said, gold, glued)):
        found = [reading]
    return tuple(found)


def _expression(text: str, glued: bool) -> Reading | None:
    """The reading of a text that is an expression as a whole."""
    if _WORDS.search(tex.joined(_DELIMITED.sub(" ", text))) and _DELIMITED.search(text):
        return None
    if len(_DOLLARS.findall(text)) % 2 == 0:
        text = _DELIMITERS.sub(" ", text)
    elif "\\" not in text:
        text = re.sub(r"\$(?=\s*\Z)", "", text)
    body = tex.plain(text)
    if not body:
        return None
    parts = tuple(tex.parts(body, glued=glued))
    bodies = [tex.restored(part.body) for part in parts]
    bare = " ".join(bodies)
    words = _PROSE.search(_NO_WORDS.sub("", _MATRIX.sub("", bare)))
    if words:
        if len(parts) > 1 or not _WORD.fullmatch(bare):
            return None
        bodies = [rf"\text{{{bare}}}"]
    whole = parsed(tex.restored(body) if ";" in body else ", ".join(bodies))
    return Reading(parts, whole, body, text) if whole is not None else None


_DOLLARS = re.compile(r"(?<!\\)\$")


def _out_of_words(text: str, gold: bool, glued: bool) -> Reading | None:
    """The expression in a text of words: behind "the answer is", else where math-verify finds one."""
    for found in reversed(list(_STATED.finditer(text))):
        reading = _expression(boxed.statement(found["rest"]), glued)
        if reading and not isinstance(reading.whole, sympy.Symbol):
            return reading
    if gold and not _DELIMITED.search(text):
        return None  # "at least 5" is not 5
    delimited = _DELIMITED.sub(lambda found: f"${tex.restored(tex.plain(next(filter(None, found.groups()))))}$", text)
    plain = delimited if delimited != text else tex.restored(tex.plain(text))
    lists = _LIST.findall(plain) if delimited == text else []
    if lists and plain.rstrip(" .").endswith(lists[-1].rstrip(".")):
        return _expression(lists[-1], glued)
    picked = parse(plain, _TARGETS, parsing_timeout=0, raise_on_error=False)
    if not picked or isinstance(picked[0], str):
        return None
    return Reading((tex.Part(picked[-1] if isinstance(picked[-1], str) else ""),), picked[0], text)


@functools.lru_cache(maxsize=4096)
def parsed(text: str) -> Any:
    """The sympy expression of LaTeX, all of it; None if it is not one."""
    if not _INDEXED.search(text):
        text = _IMAGINARY.sub("I", text)
    try:
        return latex2sympy(text, is_real=True, convert_degrees=False, normalization_config=_CLEAN)
    except Exception:  # the grammar and sympy raise anything at a text that is no expression; that is the text's fault
        if text.rstrip().endswith(r"\%"):  # the grammar takes it behind plain numbers only
            number = parsed(text.rstrip()[:-2])
            return None if number is None else convert_to_pct(number)
        *before, last = re.split(r"(?<![\\<>!])=", text)
        return parsed(last) if len(before) > 1 and not re.search("[,;]", text) else None  # a chain of equations


def _equal(gold: Reading, said: Reading) -> bool:
    if 1 < len(gold.parts) == len(said.parts) <= MOST_PARTS:
        told_apart = any(part.unit for part in (*gold.parts, *said.parts)) or len(_names(gold.parts)) > 1
        return _matched(gold.parts, said.parts) or (not told_apart and _verified(gold.whole, said.whole))
    if len(gold.parts) == len(said.parts) == 1:
        return _same_part(gold.parts[0], gold.whole, said.parts[0], said.whole)
    return _verified(_range_of(gold), _range_of(said))


def _range_of(reading: Reading) -> Any:
    """The numbers for which several conditions on one variable hold, one of them or all; else the whole expression."""
    values = [parsed(tex.restored(part.body)) for part in reading.parts]
    if len(values) < 2 or not all(grader.is_relation(value) and not grader.is_equation(value) for value in values):
        return reading.whole
    if len(set.union(*(value.free_symbols for value in values))) != 1:
        return reading.whole
    try:
        sets = [value.as_set() for value in values]
        return sympy.Union(*sets) if _OR.search(reading.said) else sympy.Intersection(*sets)
    except Exception:  # sympy cannot solve one
        return reading.whole


def _verified(gold: Any, said: Any) -> bool:
    return verify([gold], [said], timeout_seconds=0, allow_set_relation_comp=True) or _same_range(gold, said)


def _same_range(gold: Any, said: Any) -> bool:
    """Whether two conditions on one variable hold for the same numbers: |x| < 2 and -2 < x < 2."""
    if not grader.is_relation(gold) or not grader.is_relation(said) or sympy.Eq in (type(gold), type(said)):
        return False
    if len(gold.free_symbols) != 1 or gold.free_symbols != said.free_symbols:
        return False
    try:
        return bool(gold.as_set() == said.as_set())
    except Exception:  # sympy cannot solve it
        return False


def _matched(gold: tuple[tex.Part, ...], said: tuple[tex.Part, ...]) -> bool:
    """Whether each value of the gold has one of the answer to itself; values of several names keep their order."""
    golds, answers = (
        [parsed(tex.restored(part.body)) for part in gold],
        [parsed(tex.restored(part.body)) for part in said],
    )
    if None in golds or None in answers:
        return False
    if len(_names(gold)) > 1 and not any(isinstance(value, sympy.Eq) for value in answers):
        return all(map(_same_part, gold, golds, said, answers))
    free = list(range(len(said)))
    for part, value in zip(gold, golds, strict=True):
        hit = next((i for i in free if _same_part(part, value, said[i], answers[i], words=True)), None)
        if hit is None:
            return False
        free.remove(hit)
    return True


def _names(parts: tuple[tex.Part, ...]) -> set[str]:
    """The names that values are given to: x and y in "x=2, y=3"."""
    return {part.body.split("=")[0].split("_")[0].strip() for part in parts if "=" in part.body}


def _same_part(gold: tex.Part, right: Any, said: tex.Part, value: Any, *, words: bool = False) -> bool:
    """Whether two values with their units are the same; `words`: what is counted must agree too."""
    if words and gold.unit and said.unit and _differ(gold.unit.words, said.unit.words):
        return False
    scale = _scale(gold, said)
    if scale is None:
        return False
    if bool(gold.unit) != bool(said.unit) and _lettered((said if gold.unit else gold).body.rpartition("=")[2]):
        right, value = parsed(gold.letters or gold.body), parsed(said.letters or said.body)  # 5m and 5 m
        return _verified(right, value)
    if scale == 1:
        return _verified(right, value)
    return _verified(sympy.N(right), sympy.N(value * scale)) if hasattr(value, "free_symbols") else False


def _lettered(body: str) -> bool:
    """Whether an expression has variables, other than Euler's number and the imaginary unit."""
    return bool(re.search("[a-df-hj-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", body)))


def _differ(a: str, b: str) -> bool:
    return bool(a and b) and a.removesuffix("s") != b.removesuffix("s")


def _scale(gold: tex.Part, said: tex.Part) -> float | None:
    """What the answer is multiplied by to be in the unit of the gold; None if the units measure different things."""
    if not agree(gold.unit, said.unit):
        return None
    mine, theirs = gold.unit or _radians(gold.body, said.unit), said.unit or _radians(said.body, gold.unit)
    if not mine or not theirs or mine.dimension != theirs.dimension:
        return 1
    return 1 if mine.size == theirs.size else theirs.size / mine.size


def _radians(body: str, other: Unit | None) -> Unit | None:
    r"""The unit of a bare angle that is compared with degrees: with `\pi` in it, it is in radians."""
    return Unit(1.0, other.dimension) if other and dict(other.dimension) == {"angle": 1} and r"\pi" in body else None


def _numbers_equal(gold: Any, said: Any, *_: Any) -> bool:
    """Numbers to CLOSE or, without decimals, exactly; matrices entry by entry; 9% is 9 and 0.09."""
    if isinstance(gold, sympy.MatrixBase | sympy.MatrixExpr) and isinstance(said, sympy.MatrixBase | sympy.MatrixExpr):
        gold, said = grader.safe_sympy_doit(gold), grader.safe_sympy_doit(said)
        if not isinstance(gold, sympy.MatrixBase) or not isinstance(said, sympy.MatrixBase) or gold.shape != said.shape:
            return False
        return all(grader.sympy_expr_eq(a, b, 6, 15) for a, b in zip_longest(gold.flat(), said.flat()))
    if not _is_number(gold) or not _is_number(said):
        return False
    mine, theirs = grader.get_pct_val(gold), grader.get_pct_val(said)
    if mine is not None and theirs is None and _close(mine, said):
        return True
    if theirs is not None and mine is None and abs(_valued(gold)) > 1 and _close(gold, theirs):
        return True
    return _close(gold, said)


def _close(gold: Any, said: Any) -> bool:
    gold, said = grader.safe_sympy_doit(gold), grader.safe_sympy_doit(said)
    if gold.is_Rational and said.is_Rational:
        return gold == said
    right, value = _valued(gold), _valued(said)
    if right == value:
        return True
    if not right.is_finite or not value.is_finite:
        return False
    apart, size = abs(right - value), abs(right)
    if not (gold.has(sympy.Float) or said.has(sympy.Float)):
        return bool(apart <= SAME * size)
    return bool(apart <= (max(min(CLOSE, CLOSE_SMALL * size), EXACT * size) if size else CLOSE_TO_0))


def _valued(number: Any) -> Any:
    return sympy.N(grader.safe_sympy_doit(number), 60)


def _is_number(expression: Any) -> bool:
    return isinstance(expression, sympy.Expr) and not expression.free_symbols and bool(expression.is_number)


_symbolic_equal = grader.sympy_symbolic_eq


def _expressions_equal(gold: Any, said: Any) -> bool:
    """Symbolic equality, with decimals as exact fractions; numbers are settled before."""
    if _is_number(gold) and _is_number(said):
        return False
    return _symbolic_equal(_exact(gold), _exact(said))


def _exact(expression: Any) -> Any:
    if not isinstance(expression, sympy.Basic) or not expression.has(sympy.Float):
        return expression
    return expression.replace(lambda node: isinstance(node, sympy.Float), lambda node: sympy.Rational(str(node)))


grader.sympy_numeric_eq = _numbers_equal
grader.sympy_symbolic_eq = _expressions_equal
