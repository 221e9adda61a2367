"""Captions judged by published protocols: DCScore (DeCapBench), CaptionQA, CapArena-Auto."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from string import ascii_uppercase
from typing import Annotated, Any

from pydantic import Field

from eval.scorers.judged import by_protocol, prompt, reply_of
from rewards.base import Rollout, Verdict, abstain, gold, unparsed
from rewards.chat_client.faults import Fault, Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judge_client.judged_reward import verdict_of
from rewards.judged.captions import NO_CAPTION
from rewards.parse.extract import answer_text

MOST_FACTS = 300
_BETTER = re.compile(r"(Caption 1 is better|Caption 2 is better|Tie)\.?")
_LETTER = re.compile(r"[(\s]*([A-Za-z])[).:\s]*")


@dataclass(frozen=True)
class Fact:
    """A fact of a caption: whether it describes the picture, holds, and which oracle fact says the same."""

    relevant: bool
    verified: bool
    oracle: int | None = None


@by_protocol
async def dcscore(rollout: Rollout, *, judge: Judge, trials: Annotated[int, Field(ge=1, le=25)] = 1) -> Verdict:
    """DCScore over 100: the mean of F1 over all facts of the caption and over the relevant ones (DeCapBench).

    Gold: `units`, the human facts, and `references`, of which the first helps to verify. The judge splits the caption,
    then matches and verifies `trials` times, with seeds of their own where there are several; scores are averaged.
    """
    caption = answer_text(rollout.completion)
    oracle, references = gold(rollout, "units"), gold(rollout, "references")
    if not isinstance(oracle, Sequence) or not oracle or not references:
        return abstain("gold has no units, or no reference")
    if not caption:
        return NO_CAPTION
    facts, relevant = await verdict_of(judge, prompt("decap_facts"), data={"caption": caption}, parse=_facts)
    if not facts:
        return Verdict(0.0, "the caption states no fact")
    asks = (_trial(judge, rollout, facts, list(oracle), str(references[0]), trial, trials) for trial in range(trials))
    judged = [
        [Fact(*parts) for parts in zip(relevant, verified, matched, strict=True)]
        for matched, verified in await asyncio.gather(*asks)
    ]
    scores = [decap(one, len(oracle)) for one in judged]
    used = ", ".join(prompt(name).name for name in ("decap_facts", "decap_match", "decap_verify"))
    return Verdict(fmean(scores), f"{used}: {len(facts)} facts, {trials} trials {[round(one, 4) for one in scores]}")


def decap(facts: Sequence[Fact], oracles: int) -> float:
    """DCScore over 100 of a caption's facts against so many oracle facts.

    >>> facts = [Fact(True, True, i) for i in range(4)] + [Fact(True, True)] * 1 + [Fact(True, False)] * 5
    >>> [round(value, 7) for value in precision_recall(facts, 6, facts)]
    [0.5, 0.7142857]
    """
    described = [fact for fact in facts if fact.relevant]
    return fmean(_f1(*precision_recall(part, oracles, facts)) for part in (facts, described))


def precision_recall(part: Sequence[Fact], oracles: int, facts: Sequence[Fact]) -> tuple[float, float]:
    """Verified facts over facts; and the oracle facts found, over those there are together with verified new ones.

    A matched fact counts one over the number of all `facts` with the same match, also where `part` is some of them.
    """
    if not part:
        return 0.0, 0.0
    same = Counter(fact.oracle for fact in facts)
    verified = [fact for fact in part if fact.verified]
    new = sum(fact.oracle is None for fact in verified)
    found = sum(1 / same[fact.oracle] for fact in verified if fact.oracle is not None)
    return len(verified) / len(part), (found + new) / (oracles + new) if oracles + new else 0.0


@by_protocol
async def captionqa(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean over questions that a judge answers from the caption alone (CaptionQA).

    Gold: `quiz`, a list of {options, right, cannot, question}, options in the order that they are asked in, `right` and
    `cannot` places among them. Right is 1; to say that the caption does not say is 1 / (other options) + 0.05; what is
    wrong or cannot be read is 0. `why` holds the counts as JSON.
    """
    caption, quiz = answer_text(rollout.completion), gold(rollout, "quiz")
    if not isinstance(quiz, Sequence) or not quiz:
        return abstain("gold has no quiz")
    if not caption:
        return unparsed(json.dumps({"n": len(quiz), "right": 0, "cannot": 0, "unread": 0, "score": 0.0}))
    outcomes = await asyncio.gather(*(_answered(judge, caption, one) for one in quiz))
    kinds = Counter(kind for kind, _ in outcomes)
    total = sum(score for _, score in outcomes)
    counts = {"n": len(quiz), "right": kinds["right"], "cannot": kinds["cannot"], "unread": kinds["unread"]}
    return Verdict(total / len(quiz), json.dumps({**counts, "score": total, "prompt": prompt("captionqa").name}))


@by_protocol
async def caparena(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge likes the caption better than another one, 0.5 for a tie, 0 otherwise (CapArena-Auto).

    Gold: `rival`, the other caption, `references`, of which the judge sees the first, and `first`, whether the caption
    to be judged comes first. A reply must be one of the three sentences exactly, up to a final period.
    """
    caption, rival, references = answer_text(rollout.completion), gold(rollout, "rival"), gold(rollout, "references")
    if not isinstance(rival, str) or not references:
        return abstain("gold has no rival, or no reference")
    if not caption:
        return NO_CAPTION
    first = bool(gold(rollout, "first"))
    order = (caption, rival) if first else (rival, caption)
    data = {"reference": str(references[0]), "first": order[0], "second": order[1]}
    said = await reply_of(judge, prompt("caparena"), _better, data=data, shown=shown(rollout.media))
    score = 0.5 if said == "Tie" else float((said == "Caption 1 is better") == first)
    return Verdict(score, f"{prompt('caparena').name}: {said}; this is caption {1 if first else 2}")


async def _trial(
    judge: Judge, rollout: Rollout, facts: list[str], oracle: list[str], reference: str, trial: int, trials: int
) -> tuple[list[int | None], list[bool]]:
    """Which oracle fact each fact matches, and whether it holds."""
    listed, count = json.dumps(facts, ensure_ascii=False), str(len(facts))
    params = {"seed": trial} if trials > 1 else {}
    matched = verdict_of(
        judge,
        prompt("decap_match"),
        data={"facts": listed, "oracle": json.dumps(oracle, ensure_ascii=False)},
        plain={"count": count, "oracles": str(len(oracle))},
        parse=lambda found: _matched(found, len(facts), len(oracle)),
        params=params,
    )
    verified = verdict_of(
        judge,
        prompt("decap_verify"),
        data={"facts": listed, "reference": reference},
        plain={"count": count},
        shown=shown(rollout.media),
        parse=lambda found: replies.flags(found, "verified", len(facts)),
        params=params,
    )
    return await asyncio.gather(matched, verified)


async def _answered(judge: Judge, caption: str, one: Mapping[str, Any]) -> tuple[str, float]:
    """What became of a question, and what it scores; a judge that does not answer at all raises."""
    options = [str(option) for option in one["options"]]
    letters = ascii_uppercase[: len(options)]
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    data = {"caption": caption, "question": "\n".join([str(one["question"]), *lines])}
    try:
        letter = await reply_of(judge, prompt("captionqa"), functools.partial(_one_letter, letters=letters), data=data)
    except Fault as fault:
        if fault.cause != "unreadable":
            raise
        return "unread", 0.0
    place = letters.index(letter)
    if place == one["right"]:
        return "right", 1.0
    return ("cannot", 1 / (len(options) - 1) + 0.05) if place == one["cannot"] else ("wrong", 0.0)


def _facts(found: dict[str, Any]) -> tuple[list[str], list[bool]]:
    facts = found.get("facts")
    if not isinstance(facts, list) or len(facts) > MOST_FACTS or not all(isinstance(one, str) for one in facts):
        raise Unreadable(f"facts are {facts!r:.50}, not a list of at most {MOST_FACTS} texts")
    return facts, replies.flags(found, "relevant", len(facts))


def _matched(found: dict[str, Any], count: int, oracles: int) -> list[int | None]:
    places = found.get("matched")
    if not isinstance(places, list) or len(places) != count:
        raise Unreadable(f"matched is {places!r:.50}, not a list of {count} places")
    for place in places:
        if place is not None and (isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < oracles):
            raise Unreadable(f"a match is {place!r:.20}, neither null nor a place from 0 to {oracles - 1}")
    return places


def _one_letter(reply: str, *, letters: str) -> str:
    said = _LETTER.fullmatch(reply)
    if not said or said[1].upper() not in letters:
        raise Unreadable(f"{reply!r:.50} is not one of the letters {letters}")
    return said[1].upper()


def _better(reply: str) -> str:
    """One of the three verdicts.

    >>> _better(" Caption 1 is better. ")
    'Caption 1 is better'
    """
    said = _BETTER.fullmatch(reply.strip())
    if not said:
        raise Unreadable(f"{reply!r:.50} is none of the three verdicts")
    return said[1]


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
