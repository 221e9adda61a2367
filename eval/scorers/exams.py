"""Scorers of exam questions by the rules of their publications: MMMU, MathVista, MATH-Vision."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from rapidfuzz.distance import Levenshtein

from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text, boxed, choice_letter, finite, number
from rewards.rules.math_match import math_match

_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBER = re.compile(r"-?(?:(?<!\d)\.\d+|\b\d{1,3}(?:,\d{3})+(?:\.\d+)?|\b\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\d,])")
_PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_SETTING = re.compile(r"[\s$]|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\[,;!]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2}")
_LETTERED = (r"\(([{0}])\)", r"(?<![A-Za-z])([{0}]) ", r"(?<![A-Za-z])([{0}])\.")


@per_rollout
def mmmu_choice(rollout: Rollout) -> Verdict:
    """1 if MMMU's published parser reads the gold letter (gold: `choice`, `options`).

    It looks for "(A)", then "A ", then "A.", then in replies of more than 5 words for an option's text; the one that
    stands last wins. Where it finds nothing it guesses at random; here that is a failure.

    >>> gold = {"choice": "B", "options": ["cat", "dog"]}
    >>> [one.score for one in mmmu_choice([Rollout("Not (A) but (B)", gold), Rollout("Hm", gold)])]
    [1.0, 0.0]
    """
    right, options = gold(rollout, "choice"), rollout.answer["options"]
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("no answer")
    reply, letters = f" {text.strip(',.!?;:' + chr(39))} ", ascii_uppercase[: len(options)]
    for pattern in _LETTERED:
        if found := re.findall(pattern.format(letters), reply):
            return Verdict(float(found[-1] == right), f"said {found[-1]}")
    if len(reply.split()) > 5:
        places = [
            (reply.lower().rfind(str(option).lower()), letter) for letter, option in zip(letters, options, strict=True)
        ]
        place, letter = max(places)
        if place >= 0:
            return Verdict(float(letter == right), f"said {letter}")
    return unparsed(f"none of {letters}")


@per_rollout
def mmmu_open(rollout: Rollout) -> Verdict:
    """1 if one of the candidate answers that MMMU's published rule finds is right (gold: `text`, any of).

    Candidates are the shortest tails after a cue in each line, or the whole reply, and all numbers in them rounded to
    2 decimals. A gold text need only be contained in a candidate, a gold number must equal one. 1/2 is not 0.5.

    >>> [one.score for one in mmmu_open([Rollout("So the answer is 1,200.", "1200"), Rollout("1/2", "0.5")])]
    [1.0, 0.0]
    """
    golds: Any = gold(rollout, "text")
    golds = [golds] if isinstance(golds, str) else golds
    if not isinstance(golds, Sequence) or not golds:
        return abstain(f"gold text {golds!r:.80} is no text or list of texts")
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("empty answer")
    tails = _tails(text.strip().strip(".").lower())
    numbers = {round(value, 2) for tail in tails for value in _numbers(tail)}
    right = any(_open_right(str(one), tails, numbers) for one in golds)
    return Verdict(float(right), f"read {tails[:3]}")


@per_rollout
def mathvista_match(rollout: Rollout, *, nearest_choice: bool = False) -> Verdict:
    """1 if the answer is MathVista's (gold: `text`, `answer_type`, `precision`, `choices` where it is a choice).

    A choice counts by the text of its option, an integer after truncation, a float after rounding to `precision`, a
    list as a Python literal. `nearest_choice` maps what chooses no option to the one at the smallest edit distance.

    >>> gold = {"text": "0.67", "answer_type": "float", "precision": 2}
    >>> mathvista_match([Rollout("0.6667", gold)])[0].score
    1.0
    """
    answer = rollout.answer
    if not isinstance(answer, Mapping) or not isinstance(answer.get("text"), str):
        return abstain("gold has no text")
    text, right = answer_text(rollout.completion), answer["text"].strip()
    if not right:
        return abstain("the answer is not public")
    if not text:
        return unparsed("empty answer")
    if choices := answer.get("choices"):
        said = _chosen(text, [str(one) for one in choices], nearest_choice)
        return unparsed("no choice") if said is None else Verdict(float(said == right), f"said {said}")
    if answer.get("answer_type") == "list":
        values, wanted = _literal(text), _literal(right)
        return unparsed("no list") if values is None else Verdict(float(values == wanted), f"said {values}")
    if answer.get("answer_type") == "text":
        return Verdict(float(text.strip() == right), f"said {text[:80]}")
    value = number(text, thousands=True)
    target = finite(right) if _PLAIN.fullmatch(right) else None
    if value is None or target is None:
        return unparsed("no number") if value is None else abstain(f"gold {right!r} is no number")
    if answer.get("answer_type") == "integer":
        return Verdict(float(int(value) == int(target)), f"said {int(value)}")
    digits = int(answer.get("precision") or 1)
    return Verdict(float(str(round(value, digits)) == str(round(target, digits))), f"said {value:g}")


@per_rollout
def letter_or_value(rollout: Rollout, *, decimals: int | None = None) -> Verdict:
    """1 for the gold letter, or for the value of its option (MATH-Vision; gold: `choice`, `options`).

    A value is compared as text, as a number within 1e-6, or with `decimals` after rounding, and as an expression. What
    is an expression as a whole names no option by a part of it: \\sqrt{3} is not the option 3.

    >>> gold = {"choice": "B", "options": ["1/2", "0.25"]}
    >>> [one.score for one in letter_or_value([Rollout(r"\\\\boxed{0.250}", gold), Rollout("A", gold)])]
    [1.0, 0.0]
    """
    right, options = gold(rollout, "choice"), [str(one) for one in rollout.answer["options"]]
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("no answer")
    letters = ascii_uppercase[: len(options)]
    same = [letter for letter, option in zip(letters, options, strict=True) if _formula(option) == _formula(text)]
    expression = not _WORD.search(_COMMAND.sub(" ", text))
    letter = choice_letter(text, letters) or (same[0] if len(same) == 1 else None)
    if letter := letter or (None if expression else choice_letter(text, letters, options)):
        return Verdict(float(letter == right), f"said {letter}")
    said, target = plain_value(text), options[letters.index(right)]
    said = number(text) if said is None and "\\" not in text else said
    value = plain_value(target)
    if expression and None in (said, value):
        verdict = math_match([Rollout(text, {"math": target})])[0]
        return verdict if verdict.kind != "abstained" else unparsed("neither a letter nor the value of an option")
    if said is None:
        return unparsed("neither a letter nor a value")
    return Verdict(float(value is not None and same_number(said, value, decimals)), f"said {said:g}")


@per_rollout
def rounded_match(rollout: Rollout, *, decimals: int = 2) -> Verdict:
    """1 if the answer's number equals the gold one after rounding, so that 0.333 is 1/3 (gold: `math`).

    >>> [one.score for one in rounded_match([Rollout("0.333", {"math": "1/3"}), Rollout("0.004", {"math": "0.001"})])]
    [1.0, 1.0]
    """
    target = plain_value(str(gold(rollout, "math")))
    if target is None:
        return abstain("gold math is no number")
    text = answer_text(rollout.completion)
    value = plain_value(boxed(text)) if text else None
    if value is None:
        return unparsed("no number")
    return Verdict(float(same_number(value, target, decimals)), f"said {value:g}")


def plain_value(text: str) -> float | None:
    r"""A decimal or a simple fraction as a number.

    >>> plain_value("1/4"), plain_value(r"\frac{1}{2}"), plain_value("x")
    (0.25, 0.5, None)
    """
    plain = re.sub(r"\\d?frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2", text.strip().strip("$").rstrip("."))
    parts = [part.strip() for part in plain.split("/")]
    if len(parts) > 2 or not all(_PLAIN.fullmatch(part) for part in parts):
        return None
    values = [finite(part) for part in parts]
    if None in values or (len(values) == 2 and not values[1]):
        return None
    first, second = values[0], values[1] if len(values) == 2 else 1.0
    assert first is not None
    assert second is not None
    return first / second


def same_number(a: float, b: float, decimals: int | None = None) -> bool:
    """Whether two numbers are within 1e-6, or equal after rounding to `decimals`."""
    return abs(a - b) <= 1e-6 if decimals is None else round(a, decimals) == round(b, decimals)


def _formula(text: str) -> str:
    """An option as text: without blanks and what only sets a formula."""
    return _SETTING.sub("", text).replace("dfrac", "frac").rstrip(".").casefold()


def _tails(reply: str) -> list[str]:
    """The shortest tail after a cue in each line; the whole reply where there is none."""
    lines = [line.strip() for line in reply.split("\n") if line.strip()]
    found = []
    for i, line in enumerate(lines):
        cues = (*_CUES, "=") if i == len(lines) - 1 else _CUES
        tails = [line.rsplit(cue, 1)[1].strip() for cue in cues if cue in line]
        shortest = min(tails, key=len, default="")
        if shortest and shortest not in set(":,.!?;'"):
            found.append(shortest)
    return found or [reply]


def _numbers(text: str) -> list[float]:
    values = [finite(one.replace(",", "")) for one in _NUMBER.findall(text)]
    return [value for value in values if value is not None]


def _open_right(right: str, tails: Sequence[str], numbers: set[float]) -> bool:
    plain = right.strip().replace(",", "")
    value = finite(plain) if _PLAIN.fullmatch(plain) else None
    if value is not None:
        return round(value, 2) in numbers
    text = right.strip().lower()
    if len(text) == 1:
        return any(form in f" {tail} " for tail in tails for form in (f" {text}", f"{text} "))
    return any(text in tail for tail in tails)


def _chosen(text: str, choices: Sequence[str], nearest: bool) -> str | None:
    letters = ascii_uppercase[: len(choices)]
    if letter := choice_letter(text, letters, choices):
        return choices[letters.index(letter)].strip()
    return min(choices, key=lambda one: Levenshtein.distance(text, one)).strip() if nearest else None


def _literal(text: str) -> list[Any] | None:
    found = re.search(r"\[[^\[\]]*\]", text)
    if not found:
        return None
    try:
        values = ast.literal_eval(found.group())
        return [float(one) if isinstance(one, int | float) else one for one in values]
    except (ValueError, SyntaxError, TypeError, OverflowError):
        return None
