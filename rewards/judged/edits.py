"""Edits of pictures: the checklist and verdict of Edit-R1 (2604.27505), and EditScore (2509.23909).

Pictures of a rollout: the source, then the edited one, as the second medium or as what was made. The instruction: the
gold's `instruction`, else the prompt.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from mmrl.core.messages import user_text
from rewards.base import Rollout, Verdict, abstain, gold
from rewards.chat_client.faults import Fault, Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.judged_reward import judged, verdict_of
from rewards.judge_client.templates import quoted, template
from rewards.parse.extract import without_thinking

PRINCIPLES = 10
CATEGORIES = {"Follow": (3, 4), "Keep": (3, 4), "Quality": (2, 3)}
RANGE = 25  # of EditScore's raw scores
SAMPLING = {"temperature": 0.7, "top_p": 0.9}  # of EditScore's passes

_SCORE = re.compile(r"<score>\s*+([-+]?\d{1,20}(?:\.\d{1,20})?)\s*+</score>")
_LIST = re.compile(r'\[\s*+\{\s*+"')
_AVERAGE = re.compile(r'\{\s*+"average_score"\s*+:\s*+(-?\d{1,20}(?:\.\d{1,20})?)\s*+\}')
LAST_LISTS = 20  # openings of lists that are tried, from the end: a long reply of nothing else would take its square


@dataclass(frozen=True)
class Checklist:
    """A verifier's chain as read: each question with 0 or 1, the average it gives, and its final score in [0, 10]."""

    points: tuple[tuple[str, int], ...]
    average: float | None
    score: float


@judged
async def edit_verifier(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The verifier's final score over 10, after it has reasoned and answered a checklist (Edit-R1's Edit-RRM).

    Source: 2604.27505. Needs two pictures, the source and the edit, and the instruction: the gold's `instruction`, else
    the prompt. The checklist is the gold's `principles` ({question, category}); without them the judge first writes ten
    from the source and the instruction. The final score is the model's own and need not be ten times the mean of the
    checklist.
    """
    pair = _pair(rollout)
    if isinstance(pair, Verdict):
        return pair
    source, edited, instruction = pair
    given = gold(rollout, "principles") if isinstance(rollout.answer, Mapping) else None
    if given is not None and not _questions(given):
        return abstain(f"gold principles are {given!r:.100}, not a list of questions")
    questions = _questions(given) or await _written(judge, source, instruction)
    used, limit = template("edit_verifier"), judge.spec.max_chars
    values = {
        "instruction": quoted(instruction, limit),
        "principles": quoted(json.dumps(questions, ensure_ascii=False), limit),
        "count": str(len(questions)),
    }
    ask = Ask(used.name, *used.rendered(values), (source, edited))
    found = await judge.read(ask, lambda reply: parse_rrm(reply, len(questions)))
    failed_points = "; ".join(question for question, score in found.points if not score)
    return Verdict(found.score / 10, f"{used.name}: {found.score:g} of 10; not: {failed_points[:300]}")


@judged
async def edit_score(
    rollout: Rollout,
    *,
    judge: Judge,
    passes: Annotated[int, Field(ge=1, le=64)] = 1,
    average: Literal["last", "first"] = "last",
) -> Verdict:
    """sqrt(SC * PQ) over 10, the mean of `passes` with a seed each (EditScore's self-ensemble, 2509.23909).

    SC is the lower of editing success and absence of over-editing, PQ that of naturalness and absence of artefacts.
    Needs two pictures, the source and the edit, and the instruction: the gold's `instruction`, else the prompt. A pass
    that cannot be read is made once more with a further seed, and then left out; if none is left there is no verdict
    (the released code takes a middling score instead). `average="first"` takes sqrt of the mean SC and PQ. Two calls of
    the judge a pass.
    """
    pair = _pair(rollout)
    if isinstance(pair, Verdict):
        return pair
    source, edited, instruction = pair
    made = await asyncio.gather(*(_pass(judge, source, edited, instruction, seed, passes) for seed in range(passes)))
    scores = [entry for entry in made if not isinstance(entry, Fault)]
    if not scores:
        raise next(entry for entry in made if isinstance(entry, Fault))
    overall = ensemble(scores, average)
    return Verdict(overall / 10, f"{overall:.2f} of 10 from {len(scores)} of {passes} passes (SC, PQ): {scores[:8]}")


def parse_rrm(text: str, count: int | None = None) -> Checklist:
    """The parse contract of Edit-RRM: the last list of questions with 0 or 1, `average_score`, the last `<score>`.

    Nothing is clipped: no score, one outside [0, 10], or another number of points than `count` is Unreadable.

    >>> parse_rrm('Fine. [{"question": "Red?", "score": 1}] {"average_score": 1.0} <score>7.5</score>').score
    7.5
    """
    text = without_thinking(text) or ""
    scores = _SCORE.findall(text)
    if not scores:
        raise Unreadable("no <score>")
    points = _last_points(text)
    if count is not None and len(points) != count:
        raise Unreadable(f"{len(points)} points for {count} principles")
    averages = _AVERAGE.findall(text)
    average = replies.in_range(float(averages[-1]), "average_score", 0, 1) if averages else None
    return Checklist(points, average, replies.in_range(float(scores[-1]), "score", 0, 10))


def parse_scores(text: str, n: int = 2, hi: float = RANGE) -> list[float]:
    """The `n` scores from 0 to `hi` of an EditScore reply, `{"reasoning": ..., "score": [...]}`.

    >>> parse_scores('{"reasoning": "fine", "score": [20, 15]}')
    [20.0, 15.0]
    """
    found = replies.json_object(text).get("score")
    if not isinstance(found, list) or len(found) != n:
        raise Unreadable(f"score is {found!r:.50}, not a list of {n} numbers")
    return [replies.in_range(entry, "score", 0, hi) for entry in found]


def dimension(scores: Sequence[float], hi: float = RANGE) -> float:
    """The lowest of the raw scores of a dimension, on the scale from 0 to 10."""
    return min(scores) * 10 / hi


def ensemble(passes: Sequence[tuple[float, float]], average: Literal["last", "first"] = "last") -> float:
    """The overall score from 0 to 10 of some passes, each (SC, PQ).

    >>> round(ensemble([(6, 7.2), (8, 6.4)]), 7), round(ensemble([(6, 7.2), (8, 6.4)], "first"), 7)
    (6.8640441, 6.8992753)
    """
    if average == "first":
        return math.sqrt(math.prod(sum(column) / len(passes) for column in zip(*passes, strict=True)))
    return sum(math.sqrt(sc * pq) for sc, pq in passes) / len(passes)


def _questions(found: Any) -> list[str]:
    """The questions of a checklist, each a text or {question, category}; none if one of them is neither."""
    listed = found if isinstance(found, list | tuple) else ()
    texts = [entry.get("question") if isinstance(entry, Mapping) else entry for entry in listed]
    return [str(entry) for entry in texts] if all(isinstance(entry, str) and entry.strip() for entry in texts) else []


def _pair(rollout: Rollout) -> tuple[Shown, Shown, str] | Verdict:
    """Source, edited picture and instruction; or why there is nothing to judge."""
    if [item.kind for item in rollout.all_media] != ["image", "image"]:
        return abstain("media are not a source picture and an edited one")
    given = gold(rollout, "instruction") if isinstance(rollout.answer, Mapping) else None
    instruction = given if isinstance(given, str) else user_text(rollout.prompt)
    if not instruction.strip():
        return abstain("no instruction in the gold or the prompt")
    original, edited = rollout.all_media
    return Shown(original, "The original:"), Shown(edited, "The edit:", size_of=original), instruction


async def _written(judge: Judge, source: Shown, instruction: str) -> list[str]:
    """The ten questions that the judge writes; the same for all edits of a source."""
    data = {"instruction": instruction}
    return await verdict_of(judge, template("edit_principles"), data=data, shown=(source,), parse=_ten)


def _ten(found: dict[str, Any]) -> list[str]:
    listed = found.get("principles")
    if (
        not isinstance(listed, list)
        or len(listed) != PRINCIPLES
        or not all(isinstance(entry, dict) for entry in listed)
    ):
        raise Unreadable(f"principles are not a list of {PRINCIPLES}")
    counts = Counter(str(entry.get("category")) for entry in listed)
    if set(counts) != set(CATEGORIES) or not all(
        low <= counts[name] <= high for name, (low, high) in CATEGORIES.items()
    ):
        raise Unreadable(f"principles of the categories {dict(counts)}, not {CATEGORIES}")
    questions = _questions(listed)
    if not questions:
        raise Unreadable("principles without a question")
    return questions


async def _pass(
    judge: Judge, source: Shown, edited: Shown, instruction: str, seed: int, passes: int
) -> tuple[float, float] | Fault:
    """(SC, PQ) of one pass; one that cannot be read is made again with the seed of no other pass."""
    fault: Fault | None = None
    for tried in (seed, seed + passes):
        try:
            return await _dimensions(judge, source, edited, instruction, {**SAMPLING, "seed": tried})
        except Fault as found:
            fault = found
            if found.cause != "unreadable":
                break
    assert fault is not None
    return fault


async def _dimensions(
    judge: Judge, source: Shown, edited: Shown, instruction: str, params: Mapping[str, Any]
) -> tuple[float, float]:
    semantics, quality = template("edit_semantics"), template("edit_quality")
    system, user = semantics.rendered({"instruction": quoted(instruction, judge.spec.max_chars)})
    sc, pq = await asyncio.gather(
        judge.read(Ask(semantics.name, system, user, (source, edited), params), parse_scores),
        judge.read(Ask(quality.name, *quality.rendered({}), (edited,), params), parse_scores),
    )
    return dimension(sc), dimension(pq)


def _last_points(text: str) -> tuple[tuple[str, int], ...]:
    """The last JSON list of {question, score} in a text."""
    decoder = json.JSONDecoder()
    for start in [found.start() for found in _LIST.finditer(text)][: -LAST_LISTS - 1 : -1]:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if all(isinstance(entry, dict) and isinstance(entry.get("question"), str) for entry in found):
            return tuple((entry["question"], _passed(entry.get("score"))) for entry in found)
    raise Unreadable("no list of questions with their scores")


def _passed(score: Any) -> int:
    if score not in (0, 1) or isinstance(score, bool):
        raise Unreadable(f"a question is scored {score!r:.20}, not 0 or 1")
    return int(score)
