"""Rewards that compare the answer in a completion with the gold answer by rule."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Annotated, Any

from pydantic import Field

from rewards.base import Rollout, Verdict, abstain, gold, per_answer, per_reply, unparsed
from rewards.parse import extract
from rewards.parse.choices import choice_letter
from rewards.parse.numbers import is_scale, number

Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]

CLOSE_TO_0 = 1e-9
NO_ANSWER = unparsed("no answer: the thinking is not closed")


@per_reply
def choice_match(rollout: Rollout) -> Verdict:
    """1 if the completion chooses the gold letter, else 0.

    Gold: `choice`, and `options` with the texts of the options, which an answer may name instead of the letter. Several
    letters ("A or B") count as no answer. In the spirit of MMMU's parser (2311.16502), without its random guess.

    >>> choice_match([Rollout("<answer>(B)</answer>", {"choice": "B", "options": ["cat", "dog"]})])[0].score
    1.0
    """
    options = rollout.answer.get("options") if isinstance(rollout.answer, Mapping) else None
    options = [str(option) for option in options] if isinstance(options, list | tuple) else []
    letters = ascii_uppercase[: len(options)] or ascii_uppercase
    right = gold(rollout, "choice")
    if not isinstance(right, str) or len(right) != 1 or right not in letters:
        return abstain(f"gold choice {right!r} is not one of the letters {letters}")
    text = extract.reply(rollout.answered)
    if text is None:
        return NO_ANSWER
    letter = choice_letter(text, letters, options)
    return _compared(letter, right, letter == right) if letter else unparsed(f"no single letter of {letters}")


@per_answer
def yesno_match(rollout: Rollout) -> Verdict:
    """1 if the completion says yes or no as the gold does, else 0 (as in POPE, 2305.10355).

    Gold: `yesno`, a bool or the word. A completion with both words, or with neither, has no answer.

    >>> [verdict.score for verdict in yesno_match([Rollout("No, it is.", {"yesno": False}), Rollout("Yes", "no")])]
    [1.0, 0.0]
    """
    right = gold(rollout, "yesno")
    if isinstance(right, str):
        right = extract.yes_no(right)
    if not isinstance(right, bool):
        return abstain(f"gold yesno {gold(rollout, 'yesno')!r} is neither yes nor no")
    text = extract.answer_text(rollout.answered)
    if text is None:
        return NO_ANSWER
    answer = extract.yes_no(text)
    if answer is None:
        return unparsed("neither yes nor no, or both")
    return _compared(_yes(answer), _yes(right), answer == right)


@per_answer
def number_match(rollout: Rollout, *, rel_tol: Tolerance = 1e-9, abs_tol: Tolerance = 0.0) -> Verdict:
    """1 if the last number of the answer is within `max(rel_tol * |gold|, abs_tol)` of the gold, else 0.

    Gold: `number`, and perhaps `unit`. 1,200 reads as 1200, 1.2M as 1200000, "five" as 5. A percent sign is accepted
    where the gold has one, or where its `unit` is "%"; other units are not compared. A gold of 0 is met to 1e-9.

    >>> number_match([Rollout("<answer>3.6 cm</answer>", {"number": 3.5, "unit": "cm"})], rel_tol=0.05)[0].score
    1.0
    >>> [verdict.score for verdict in number_match([Rollout(said, {"number": 3.5}) for said in ("3.5", "3 to 4")])]
    [1.0, 0.0]
    """
    written = gold(rollout, "number")
    unit = rollout.answer.get("unit") if isinstance(rollout.answer, Mapping) else None
    percent = unit == "%" or (isinstance(written, str) and written.rstrip().endswith("%"))
    right = _gold_number(written)
    if right is None:
        return abstain(f"gold number {written!r} is not a finite number")
    text = extract.answer_text(rollout.answered)
    if text is None:
        return NO_ANSWER
    value = number(text, thousands=True, percent=percent, scales=not is_scale(unit))
    if value is None:
        return unparsed("no number at the end of the answer")
    limit = max(rel_tol * abs(right), abs_tol) if right else max(abs_tol, CLOSE_TO_0)
    return _compared(f"{value:g}", f"{right:g}", abs(value - right) <= limit)


@per_answer
def text_match(rollout: Rollout) -> Verdict:
    """1 if the answer is one of the gold texts, else 0 (as in GQA and OCR-VQA).

    Gold: `text`, one text or several. Case, blanks, one final period and the dress of LaTeX and Markdown do not matter.

    >>> text_match([Rollout("<answer>PARIS.</answer>", {"text": ["Paris", "Paris, France"]})])[0].score
    1.0
    """
    accepted = gold(rollout, "text")
    accepted = [accepted] if isinstance(accepted, str) else accepted
    if not isinstance(accepted, Sequence) or not all(isinstance(accepted_text, str) for accepted_text in accepted):
        return abstain(f"gold text {accepted!r} is not a text or a list of texts")
    rights = {_plain(accepted_text) for accepted_text in accepted} - {""}
    if not rights:
        return abstain("gold text is empty")
    text = extract.answer_text(rollout.answered)
    if text is None:
        return NO_ANSWER
    answer = _plain(extract.boxed(text))
    return _compared(answer[:80], sorted(rights)[0], answer in rights) if answer else unparsed("empty answer")


@functools.lru_cache(maxsize=1024)  # a verdict is frozen, and many are equal
def _compared(answer: str, right: str, same: bool) -> Verdict:
    return Verdict(1.0, f"said {answer}") if same else Verdict(0.0, f"said {answer}, gold {right}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _gold_number(value: Any) -> float | None:
    if isinstance(value, str):
        return number(value, thousands=True, percent=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of floats
        return None


@functools.lru_cache(maxsize=4096)  # gold texts come again with every rollout of their group
def _plain(text: str) -> str:
    return " ".join(extract.undressed(extract.composed(text)).casefold().split()).removesuffix(".")
