"""Rewards statements that the media support: a response is cut into phases, and each is verified against the media.

After PSRD (2604.17982), which finds that hallucination peaks where a semantic phase begins. The paper's abstract is all
that could be checked: how phases are cut, verified, weighted and reduced is our inference, and each is an option.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from mmrl.core.messages import user_text
from rewards.base import Rollout, Span, Verdict, abstain, unparsed
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import Shown, shown
from rewards.judge_client.judged_reward import judged, odds_of, verdict_of
from rewards.judge_client.templates import template
from rewards.parse import extract

WORDS = {"yes": 1.0, "no": 0.0, "none": None}
SHORT = 4  # letters: a shorter phase ("Mr.", "1.", "Yes.") is joined with the next

_CUT = re.compile(r"[.!?;](?=\s)|[。！？；\n]|</?\w{1,20}+>")
_OPENER = re.compile(
    r"\b(?:in addition|additionally|furthermore|moreover|there (?:is|are)|the background|"
    r"in the (?:background|foreground|cent(?:er|re)|distance)|(?:on|to) the (?:left|right))\b",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\S++")


@dataclass(frozen=True)
class Phase:
    """A stretch of the completion in characters; its onset ends at `onset`, and weighs `weight` with the rest."""

    start: int
    onset: int
    stop: int
    weight: float


@judged
async def self_hallucination(
    rollout: Rollout,
    *,
    judge: Judge,
    verify: Literal["yesno", "odds"] = "yesno",
    reduce: Literal["mean", "min"] = "mean",
    part: Literal["answer", "completion"] = "answer",
    clauses: bool = False,
    onset: Annotated[int, Field(ge=1)] = 8,
    onset_weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0,
    context: bool = True,
    most: Annotated[int, Field(ge=1)] = 64,
) -> Verdict:
    """How far the judge sees in the media what each phase of the response says (after PSRD).

    Source: 2604.17982. The judge is usually the policy or its reference. Phases are the sentences of the response, or
    of its `part`; `clauses=True` also cuts before a discourse opener. Of more than `most` phases the last holds the
    rest. The judge also gets the text before a phase, unless `context=False`. `verify="yesno"` asks for a keyed
    verdict: 1, 0, or none for a phase that says nothing about the media, which does not count. `verify="odds"` takes
    P(yes) / (P(yes) + P(no)) of the first token instead, and needs log-probs of the server. `reduce="mean"` is the mean
    over words, of which the first `onset` of a phase weigh `onset_weight` and the others 1; `reduce="min"` is the score
    of the worst phase. A phase said again counts once. A response that claims nothing scores 0. The formula is ours.

    The verdict's spans hold the phase's score at its onset, and after it a value between that and the whole score by 1
    / `onset_weight`: less blame where a hallucination only continues.
    """
    text, offset = _part(rollout, part)
    if not text:
        return unparsed("no response to verify")
    if not rollout.media:
        return abstain("no media to verify the response against")
    found = weighed(text, stretches(text, clauses=clauses, most=most), onset, onset_weight)
    pictures, question = shown(rollout.media), user_text(rollout.prompt)

    async def score(phase: Phase) -> float | None:
        asked = {"phase": text[phase.start : phase.stop], "before": text[: phase.start] if context else ""}
        return await _verified(judge, verify, {"question": question, **asked}, pictures)

    first = {_plain(text[phase.start : phase.stop]): phase for phase in reversed(found)}
    scored = dict(zip(first, await asyncio.gather(*map(score, first.values())), strict=True))
    counted = [(value, first[phase_text].weight) for phase_text, value in scored.items() if value is not None]
    if not counted:
        return Verdict(0.0, "says nothing that can be seen")
    mean = sum(value * weight for value, weight in counted) / sum(weight for _, weight in counted)
    whole = min(value for value, _ in counted) if reduce == "min" else mean
    spans = []
    for phase in found if offset is not None else ():
        value = scored[_plain(text[phase.start : phase.stop])]
        if value is not None:
            spans += _spans(phase, value, whole, offset or 0, onset_weight)
    wrong = [phase_text for phase_text, value in scored.items() if value is not None and value < 0.5]
    why = f"{len(counted)} phases, {len(wrong)} not seen: {'; '.join(wrong)[:300]}"
    return Verdict(whole, why, spans=tuple(spans))


def stretches(text: str, *, clauses: bool = False, most: int = 64) -> list[tuple[int, int]]:
    """The bounds of the phases of `text`: sentences, or with `clauses` also parts that begin with a discourse opener.

    Of more than `most` the last holds the rest.

    >>> text = "A dog runs. Mr. Fox, in the background, sleeps."
    >>> [text[start:stop] for start, stop in stretches(text, clauses=True)]
    ['A dog runs.', 'Mr. Fox,', 'in the background, sleeps.']
    """
    cuts = {0, len(text), *(place for cut in _CUT.finditer(text) for place in _ends(cut))}
    if clauses:
        cuts |= {opener.start() for opener in _OPENER.finditer(text)}
    edges, found, begun, letters = sorted(cuts), [], None, 0
    for start, stop in itertools.pairwise(edges):
        if text[start] == "<" and _CUT.fullmatch(text, start, stop):  # a tag
            begun = None
            continue
        if begun is None:
            begun, letters = start, 0
        letters += len(_LETTER.findall(text, start, stop))
        if letters >= SHORT:
            found.append((begun, stop))
            begun = None
    if not found:
        found = [(0, len(text))] if _LETTER.search(text) else []
    if len(found) > most:
        found = [*found[: most - 1], (found[most - 1][0], found[-1][1])]
    return [_stripped(text, start, stop) for start, stop in found]


def weighed(text: str, places: list[tuple[int, int]], onset: int, onset_weight: float) -> list[Phase]:
    """The phases at `places`, each with the end of its first `onset` words and its weight in words."""
    found = []
    for start, stop in places:
        ends = [word.end() for word in _WORD.finditer(text, start, stop)]
        early = min(onset, len(ends))
        found.append(Phase(start, ends[early - 1], stop, onset_weight * early + len(ends) - early))
    return found


def self_reward(yes: float, no: float) -> float:
    """The logistic of the difference of two logits or log-probabilities.

    >>> round(self_reward(2.0, 0.5), 7)
    0.8175745
    """
    return 0.5 + 0.5 * math.tanh((yes - no) / 2)


async def _verified(judge: Judge, verify: str, data: dict[str, str], pictures: tuple[Shown, ...]) -> float | None:
    if verify == "odds":
        return self_reward(*await odds_of(judge, template("phase_odds"), data=data, shown=pictures))
    return await verdict_of(judge, template("phase_check"), data=data, shown=pictures, parse=_word)


def _word(found: dict[str, Any]) -> float | None:
    return WORDS[replies.one_of(found, "verdict", tuple(WORDS))]


def _part(rollout: Rollout, part: str) -> tuple[str, int | None]:
    """The text to verify, and where it is in the completion: None where thinking in its midst was cut out."""
    completion = rollout.completion
    if part == "completion":
        return (completion if completion.strip() else ""), 0
    answer = extract.answer_text(rollout.answered)
    if not answer:
        return "", None
    for opening in ("<answer>", "\\boxed{"):
        after = completion.rfind(opening) + len(opening)
        place = completion.find(answer, after) if after >= len(opening) else -1
        if place >= 0 and not completion[after:place].strip():
            return answer, place
    place = completion.rfind(answer)
    return answer, place if place >= 0 else None


def _spans(phase: Phase, value: float, whole: float, offset: int, onset_weight: float) -> list[Span]:
    start, onset, stop = (place + offset for place in (phase.start, phase.onset, phase.stop))
    if onset_weight == 1 or onset == stop:
        return [Span(start, stop, value)]
    return [Span(start, onset, value), Span(onset, stop, whole + (value - whole) / onset_weight)]


def _ends(cut: re.Match[str]) -> tuple[int, ...]:
    return (cut.start(), cut.end()) if cut[0].startswith("<") else (cut.end(),)


def _stripped(text: str, start: int, stop: int) -> tuple[int, int]:
    piece = text[start:stop]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
