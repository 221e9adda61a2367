"""Scorers of questions about pictures with short answers: agreement with annotators, and containment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(digit) for digit, word in enumerate(_DIGITS)}
_ARTICLES = {"a", "an", "the"}
_CONTRACTED = (
    "ain't aren't can't couldn't could've didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'd "
    "I'm I've isn't it'd it'll let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't "
    "she's shouldn't should've somebody's someone's something's that's there'd there're there's they'd they'll they're "
    "they've wasn't we'd we've weren't what'll what're what's what've when's where'd where's where've who'd who'll "
    "who's who've why'll why're why's won't wouldn't would've y'all you'd you'll you're you've"
)
_CONTRACTIONS = {word.replace("'", "").lower(): word for word in _CONTRACTED.split()}
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


@per_rollout
def vqa_accuracy(rollout: Rollout, *, variant: Literal["default", "official", "evalai"] = "default") -> Verdict:
    """How many annotators agree: the mean over leaving each one out of min(agreeing others / 3, 1) (gold: `answers`).

    `official` normalises only where the annotators differ; `evalai` first drops commas and question marks and splits
    "'s" off. With a single gold the mean over the others could only be 0, so it is compared exactly.

    >>> golds = {"answers": ["cat"] * 2 + ["dog"] * 8}
    >>> round(vqa_accuracy([Rollout("A cat.", golds)])[0].score, 3)
    0.6
    """
    golds = gold(rollout, "answers")
    if not isinstance(golds, Sequence) or isinstance(golds, str) or not golds:
        return abstain(f"gold answers {golds!r:.80} are no list of texts")
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("no answer")
    said, others = text, [str(one) for one in golds]
    if variant == "evalai":
        said, others = _split_s(said), [_split_s(one) for one in others]
    if variant != "official" or len(set(others)) > 1:
        said, others = vqa_normal(said), [vqa_normal(one) for one in others]
    agreeing = others.count(said)
    if len(others) == 1:
        return Verdict(float(agreeing), f"said {said[:80]}")
    left_out = [min((agreeing - (other == said)) / 3, 1.0) for other in others]
    return Verdict(sum(left_out) / len(left_out), f"{agreeing} of {len(others)} say {said[:80]}")


def vqa_normal(text: str) -> str:
    """A text as VQA compares it: no punctuation, digits for number words, no articles, apostrophes restored.

    >>> vqa_normal("The two dogs, dont!"), vqa_normal("1,000"), vqa_normal("red/blue")
    ("2 dogs don't", '1000', 'red blue')
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    spaced, digits = text, bool(_DIGIT_COMMA.search(text))
    for mark in _PUNCTUATION:
        touching = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if touching or digits else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", spaced).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@per_rollout
def contains_match(rollout: Rollout, *, fullwidth: bool = False) -> Verdict:
    """1 if a gold text is contained in the answer (OCRBench; gold: `text`, any of, and `formula`, whether it is one).

    In lower case with newlines as blanks; a formula keeps its case and loses all blanks. `fullwidth` folds full-width
    ASCII, but never in formulas.

    >>> [one.score for one in contains_match([Rollout("It says STOP now", "stop"), Rollout("x ^ 2", "y")])]
    [1.0, 0.0]
    """
    golds: Any = gold(rollout, "text")
    golds = [golds] if isinstance(golds, str) else golds
    if not isinstance(golds, Sequence) or not golds:
        return abstain(f"gold text {golds!r:.80} is no text or list of texts")
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("empty answer")
    formula = isinstance(rollout.answer, Mapping) and bool(rollout.answer.get("formula"))
    said, rights = (_plain(text, formula, fullwidth), [_plain(str(one), formula, fullwidth) for one in golds])
    return Verdict(float(any(right in said for right in rights if right)), f"said {said[:80]}")


@per_rollout
def exact_match(rollout: Rollout) -> Verdict:
    """1 if the answer is a gold text after trimming and case folding, and nothing else (gold: `text`, any of).

    >>> [one.score for one in exact_match([Rollout(" Red", "red"), Rollout("red.", "red")])]
    [1.0, 0.0]
    """
    golds: Any = gold(rollout, "text")
    golds = [golds] if isinstance(golds, str) else golds
    if not isinstance(golds, Sequence) or not golds:
        return abstain(f"gold text {golds!r:.80} is no text or list of texts")
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("empty answer")
    return Verdict(
        float(text.strip().casefold() in {str(one).strip().casefold() for one in golds}), f"said {text[:80]}"
    )


def _plain(text: str, formula: bool, fullwidth: bool) -> str:
    if formula:
        return "".join(text.split())
    text = text.lower().strip().replace("\n", " ")
    return text.translate(_FULL_WIDTH) if fullwidth else text


def _split_s(text: str) -> str:
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
