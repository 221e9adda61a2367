"""Captions judged in parts: claims that are true, facts that are covered, language, and the questions that they answer.

BalCapRL (2605.07394): precision over atomic claims with pointability, recall over the units of a reference, and the
mean of three scores for language. CaptionQA (2511.21025): questions answered from the caption alone.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from rewards.base import Rollout, Verdict, abstain, gold, unparsed
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judge_client.judged_reward import judged, verdict_of
from rewards.judge_client.templates import template
from rewards.parse import extract

MOST_CLAIMS = 200
LANGUAGE = ("clarity", "fluency", "coherence")
CANNOT = "The caption does not say."
ABSTAINING = 0.05  # the score of saying so, above a random guess

NO_CAPTION = unparsed("no caption")


@judged
async def caption_precision(rollout: Rollout, *, judge: Judge, pointable: bool = True) -> Verdict:
    """The share of the caption's claims that are true and pointable, as the judge sees the media (BalCapRL).

    Source: 2605.07394. Needs media. A repeated claim counts once; a caption without claims scores 0. `pointable=False`
    asks for truth alone. Two calls of the judge.
    """
    caption = extract.answer_text(rollout.answered)
    if not caption:
        return NO_CAPTION
    if not rollout.media:
        return abstain("no media to check the caption against")
    claims = await _units(judge, caption)
    if not claims:
        return Verdict(0.0, "the caption claims nothing")
    if len(claims) > MOST_CLAIMS:
        return unparsed(f"the caption makes more than {MOST_CLAIMS} claims")
    good = await verdict_of(
        judge,
        template("caption_check"),
        data={"claims": json.dumps(claims, ensure_ascii=False)},
        plain={"count": str(len(claims))},
        shown=shown(rollout.media),
        parse=lambda found: _checked(found, len(claims), pointable),
    )
    wrong = [claim for claim, right in zip(claims, good, strict=True) if not right]
    return Verdict(sum(good) / len(claims), f"{sum(good)} of {len(claims)} claims; not: {'; '.join(wrong)[:300]}")


@judged
async def caption_recall(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The share of the gold facts that the caption states (BalCapRL, 2605.07394).

    Gold: `units`, a list of facts; else the first of `references`, which the judge splits once. Without facts there is
    no verdict. One call of the judge.
    """
    caption = extract.answer_text(rollout.answered)
    units = await _gold_units(judge, rollout)
    if not units:
        return abstain("gold has neither units nor references to cover")
    if not caption:
        return NO_CAPTION
    covered = await verdict_of(
        judge,
        template("caption_coverage"),
        data={"caption": caption, "units": json.dumps(units, ensure_ascii=False)},
        plain={"count": str(len(units))},
        parse=lambda found: replies.flags(found, "covered", len(units)),
    )
    missed = [unit for unit, there in zip(units, covered, strict=True) if not there]
    return Verdict(sum(covered) / len(units), f"{sum(covered)} of {len(units)} facts; not: {'; '.join(missed)[:300]}")


@judged
async def caption_language(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean of clarity, fluency and coherence, each judged from 0 to 10, over 10 (BalCapRL, 2605.07394).

    The paper gives 0 to captions under half or over twice the words of the reference, for this reward alone: wrap it in
    `length_mask`. One call of the judge.
    """
    caption = extract.answer_text(rollout.answered)
    if not caption:
        return NO_CAPTION
    parse = functools.partial(_language, names=LANGUAGE)
    scores = await verdict_of(judge, template("caption_language"), data={"caption": caption}, parse=parse)
    listed = ", ".join(f"{name} {score:g}" for name, score in zip(LANGUAGE, scores, strict=True))
    return Verdict(sum(scores) / len(scores) / 10, listed)


@judged
async def caption_utility(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean over questions that a judge answers from the caption alone: right 1, wrong 0 (CaptionQA, 2511.21025).

    Gold: `questions`, a list of {question, options, choice}, where the choice is a letter, a text or an index;
    CaptionQA's own names, choices and answer, are read too. "The caption does not say" scores 1 / options + 0.05, and
    is not an option of yes/no questions. Options are shuffled by the hash of the question. A question without a
    readable answer leaves no verdict, because means over different questions cannot be compared. One call of the judge
    a question.
    """
    caption = extract.answer_text(rollout.answered)
    try:
        quiz = [question_of(entry) for entry in _listed(gold(rollout, "questions"))]
    except (KeyError, TypeError, ValueError) as error:
        return abstain(f"a gold question cannot be read: {type(error).__name__} {error}")
    if not quiz:
        return abstain("gold has no questions")
    if not caption:
        return NO_CAPTION
    scores = await asyncio.gather(*(_answered(judge, caption, question) for question in quiz))
    return Verdict(sum(scores) / len(scores), f"{scores.count(1.0)} of {len(scores)} right")


@dataclass(frozen=True)
class Question:
    """A multiple-choice question as the judge gets it: options in their order, and the score of choosing each one."""

    text: str
    options: tuple[str, ...]
    worth: tuple[float, ...]


def question_of(entry: Mapping[str, Any]) -> Question:
    """A question of the gold, its options shuffled by its hash, "cannot answer" among them unless it is yes/no.

    >>> question_of({"question": "Is it red?", "options": ["yes", "no"], "choice": "B"})
    Question(text='Is it red?', options=('yes', 'no'), worth=(0.0, 1.0))
    """
    text, choices = (
        str(entry["question"]),
        [str(choice) for choice in entry["options" if "options" in entry else "choices"]],
    )
    answer = entry["choice" if "choice" in entry else "answer"]
    if len(choices) >= len(ascii_uppercase):
        raise ValueError(f"{len(choices)} options are more than there are letters")
    right = _index(answer, choices)
    options = [(choice, float(i == right)) for i, choice in enumerate(choices)]
    if not {"yes", "no"} <= {choice.casefold().strip(" .") for choice in choices}:
        options.append((CANNOT, 1 / len(choices) + ABSTAINING))
    seed = hashlib.sha256("\0".join([text, *choices]).encode("utf-8", "surrogatepass")).digest()
    random.Random(seed).shuffle(options)
    names, worth = zip(*options, strict=True)
    return Question(text, names, worth)


def b_cap_score(precision: float, recall: float, language: float) -> float:
    """The harmonic mean of three scores in [0, 1], times 100 (BalCapRL's b-CapScore).

    >>> round(b_cap_score(0.6, 2 / 3, 0.8), 4)
    67.9245
    """
    parts = (precision, recall, language)
    return 300 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


async def _units(judge: Judge, caption: str) -> list[str]:
    """The atomic claims of a caption."""
    most = max(MOST_CLAIMS, len(caption))  # a judge that says more has lost itself
    parse = functools.partial(replies.texts, name="claims", most=most)
    return await verdict_of(judge, template("caption_claims"), data={"caption": caption}, parse=parse)


async def _gold_units(judge: Judge, rollout: Rollout) -> list[str]:
    answer = rollout.answer if isinstance(rollout.answer, Mapping) else {}
    if answer.get("units") is not None:
        return [str(unit) for unit in _listed(answer["units"])]
    references = answer.get("references")
    first = references if isinstance(references, str) else next(iter(_listed(references)), "")
    return await _units(judge, first) if isinstance(first, str) and first.strip() else []


async def _answered(judge: Judge, caption: str, question: Question) -> float:
    letters = ascii_uppercase[: len(question.options)]
    lines = [f"{letter}. {option}" for letter, option in zip(letters, question.options, strict=True)]
    return await verdict_of(
        judge,
        template("caption_question"),
        data={"caption": caption, "question": "\n".join([question.text, *lines])},
        parse=lambda found: question.worth[letters.index(replies.one_of(found, "answer", tuple(letters)))],
    )


def _checked(found: dict[str, Any], count: int, pointable: bool) -> list[bool]:
    true, points = (replies.flags(found, name, count) for name in ("true", "pointable"))
    return [a and (b or not pointable) for a, b in zip(true, points, strict=True)]


def _language(found: dict[str, Any], *, names: Sequence[str]) -> list[float]:
    return [replies.number(found, name, 0, 10) for name in names]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _index(answer: Any, choices: Sequence[str]) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and len(answer) == 1 and answer in ascii_uppercase[: len(choices)]:
        return ascii_uppercase.index(answer)
    raise ValueError(f"gold answer {answer!r} is not one of the {len(choices)} choices")
