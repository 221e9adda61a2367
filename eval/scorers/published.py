"""Protocols with a judge: MMHal-Bench, Object HalBench, HallusionBench, TempCompass, MathVerse, MathVista.

The prompts say in our words what each protocol asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

from eval.scorers.exams import mathvista_match
from eval.scorers.judged import by_protocol, prompt, reply_of
from eval.scorers.tasks import tempcompass as tempcompass_rule
from mmrl.core.messages import user_text
from rewards.base import Rollout, Verdict, gold, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import verdict_of
from rewards.parse.coco_objects import objects_said
from rewards.parse.extract import answer_text

MOST_OBJECTS = 200
_RATING = re.compile(r"rating: (\d)(?!\d)")
_NO_ANSWER = "no answer to judge"
EXTRACT = prompt("mathverse_extract").name


@by_protocol
async def mmhal(rollout: Rollout, *, judge: Judge) -> Verdict:
    """A judge's rating from 0 to 6, over 6 (gold: `text`, the answer of a person, and `contents` of the picture)."""
    said = answer_text(rollout.completion)
    if not said:
        return unparsed(_NO_ANSWER)
    data = {
        "contents": ", ".join(str(one) for one in rollout.answer["contents"]),
        "question": user_text(rollout.prompt),
        "reference": _first(gold(rollout, "text")),
        "response": said,
    }
    rating = await reply_of(judge, prompt("mmhal"), one_rating, data=data)
    return Verdict(rating / 6, f"{prompt('mmhal').name}: rating {rating} of 6")


def one_rating(reply: str) -> int:
    """The rating of a reply, if it names exactly one, as often as it likes.

    >>> one_rating("It is fine. Rating: 5. So: rating: 5")
    5
    """
    found = set(_RATING.findall(reply.lower()))
    if len(found) != 1 or int(next(iter(found))) > 6:
        raise Unreadable(f"{len(found)} ratings from 0 to 6: {sorted(found)}")
    return int(found.pop())


@by_protocol
async def objects(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The share of right objects among the COCO objects that a judge finds named (Object HalBench; gold: `objects` and
    `references`). `why` lists them as JSON, each [word, class] once."""
    said = answer_text(rollout.completion)
    if not said:
        return unparsed("[]")
    found = await verdict_of(
        judge,
        prompt("objects_named"),
        data={"description": said},
        parse=lambda reply: replies.texts(reply, "objects", MOST_OBJECTS),
    )
    pairs = sorted({pair for one in found for pair in objects_said(one)})
    there = {
        name for text in [*rollout.answer["objects"], *rollout.answer["references"]] for _, name in objects_said(text)
    }
    right = sum(name in there for _, name in pairs)
    return Verdict(right / len(pairs) if pairs else 1.0, json.dumps(pairs))


@by_protocol
async def hallusion(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge finds the answer correct; "unclear" is right where there is no picture (HallusionBench: figure 0 of
    VS; gold: `details`, the right answer in words)."""
    said = answer_text(rollout.completion)
    if not said:
        return unparsed(_NO_ANSWER)
    data = {
        "question": user_text(rollout.prompt),
        "reference": str(gold(rollout, "details")),
        "response": said,
    }
    verdict = await verdict_of(
        judge,
        prompt("hallusion"),
        data=data,
        parse=lambda reply: replies.one_of(reply, "verdict", ("correct", "incorrect", "unclear")),
    )
    unseen = (rollout.meta.get("category"), rollout.meta.get("figure_id")) == ("VS", "0")
    right = verdict == "correct" or (verdict == "unclear" and unseen)
    return Verdict(float(right), f"{prompt('hallusion').name}: {verdict}")


@by_protocol
async def tempcompass(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The rule's score, and a judge's where the rule can read nothing (TempCompass)."""
    ruled = tempcompass_rule([rollout])[0]
    said = answer_text(rollout.completion)
    if ruled.kind != "unparsed" or not said:
        return ruled
    answer = rollout.answer
    right = _option(answer) if "choice" in answer else "yes" if answer["yesno"] else "no"
    data = {"question": user_text(rollout.prompt), "reference": right, "response": said}
    verdict = await verdict_of(
        judge,
        prompt("tempcompass"),
        data=data,
        parse=lambda reply: replies.one_of(reply, "verdict", ("correct", "incorrect")),
    )
    return Verdict(float(verdict == "correct"), f"{prompt('tempcompass').name}: {verdict}")


@by_protocol
async def tempcompass_caption(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge that reads the caption alone picks the right option (TempCompass captioning; gold: `choice`,
    `options`, `quiz`). Exactly one option, such as "B.", may occur in its reply."""
    said = answer_text(rollout.completion)
    if not said:
        return unparsed("no caption")
    answer: Any = rollout.answer
    letters = ascii_uppercase[: len(answer["options"])]
    data = {"caption": said, "question": str(answer["quiz"])}
    letter = await reply_of(judge, prompt("tempcompass_caption"), lambda reply: one_option(reply, letters), data=data)
    return Verdict(float(letter == answer["choice"]), f"{prompt('tempcompass_caption').name}: picks {letter}")


def one_option(reply: str, letters: str) -> str:
    """The only letter that occurs with a period.

    >>> one_option("B. running", "ABC")
    'B'
    """
    found = [letter for letter in letters if re.search(rf"(?<![A-Za-z]){letter}\.", reply)]
    if len(found) != 1:
        raise Unreadable(f"{len(found)} options of {letters} in {reply!r:.50}")
    return found[0]


@by_protocol
async def mathverse(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if the answer that a judge extracts is the gold one, literally or in a judge's view (MathVerse; gold: `choice`
    or `math`)."""
    answer: Any = rollout.answer
    right = str(answer["choice"] if "choice" in answer else answer["math"])
    said = await _extracted(rollout, judge)
    if said is None:
        return unparsed("the judge finds no final answer")
    if said.strip() == right.strip():
        return Verdict(1.0, f"{EXTRACT}: {said[:80]}, literally the gold answer")
    data = {"question": user_text(rollout.prompt), "reference": right, "response": said}
    same = await verdict_of(judge, prompt("mathverse_score"), data=data, parse=_same)
    return Verdict(float(same), f"{EXTRACT}: {said[:80]}; {prompt('mathverse_score').name}: {same}")


@by_protocol
async def mathvista(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The rule's score of the answer that a judge extracts (MathVista)."""
    said = await _extracted(rollout, judge)
    if said is None:
        return unparsed("the judge finds no final answer")
    verdict = mathvista_match([replace(rollout, completion=said)])[0]
    return replace(verdict, why=f"{EXTRACT}: {said[:80]}; {verdict.why}")


async def _extracted(rollout: Rollout, judge: Judge) -> str | None:
    """The final answer of a solution, by a judge; None where it has none."""
    said = answer_text(rollout.completion)
    if not said:
        return None
    data = {"question": user_text(rollout.prompt), "response": said}
    return await verdict_of(judge, prompt("mathverse_extract"), data=data, parse=_answer)


def _answer(found: dict[str, Any]) -> str | None:
    answer = found.get("answer")
    if answer is not None and not isinstance(answer, str):
        raise Unreadable(f"answer is {answer!r:.50}, neither a text nor null")
    return answer if answer and answer.strip() else None


def _same(found: dict[str, Any]) -> bool:
    if not isinstance(found.get("same"), bool):
        raise Unreadable(f"same is {found.get('same')!r:.50}, neither true nor false")
    return found["same"]


def _first(texts: Any) -> str:
    return str(texts[0] if isinstance(texts, Sequence) and not isinstance(texts, str) else texts)


def _option(answer: Any) -> str:
    """The right option with its name."""
    place = ascii_uppercase.index(answer["choice"])
    return f"{(answer.get('names') or ascii_uppercase)[place]}. {answer['options'][place]}"
