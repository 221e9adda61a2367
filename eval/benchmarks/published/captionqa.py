"""CaptionQA: a judge answers questions from the caption alone."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import listed, listed_texts, picture
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import groups, mean_words, prefixed, ratio, unparsed_share
from eval.benchmarks.published.decapbench import LONG_CAPTION
from eval.benchmarks.scoring import by_protocol, prompt, reply_of
from eval.records import Record
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold, unparsed
from rewards.chat_client.faults import Fault, Unreadable
from rewards.judge_client.client import Judge
from rewards.parse.extract import answer_text

logger = logging.getLogger(__name__)
CANNOT = "Cannot answer from the caption"
AUXILIARIES = (
    *("is", "are", "was", "were", "do", "does", "did", "have", "has", "had", "can", "could", "will", "would"),
    *("should", "shall", "may", "might", "must"),
)
_LETTER = re.compile(r"[(\s]*([A-Za-z])[).:\s]*")


def quizzed(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of CaptionQA with their `quiz`: one generator shuffles the options over the whole set in its order, and
    questions that are not yes/no get the option "cannot answer". Questions whose answer is not among their choices are
    left out, as published, and counted."""
    shuffle, dropped = random.Random(0).shuffle, 0
    for row in rows_of(files, columns):
        quiz = []
        for entry in listed(row["questions"]):
            choices, answer = listed_texts(entry["choices"]), str(entry["answer"]).strip()
            right = next((i for i, choice in enumerate(choices) if choice.strip() == answer), None)
            if len(choices) < 2 or right is None:
                dropped += 1
                continue
            options = choices if is_yes_no(str(entry["question"]), choices) else [*choices, CANNOT]
            order = list(range(len(options)))
            shuffle(order)
            cannot = order.index(len(choices)) if len(options) > len(choices) else None
            kind = entry.get("category")
            quiz.append(
                {
                    "question": str(entry["question"]),
                    "options": [options[i] for i in order],
                    "right": order.index(right),
                    "cannot": cannot,
                    "category": str(listed(kind)[0] if isinstance(kind, list | tuple) and len(kind) else kind or ""),
                }
            )
        yield {**row, "quiz": quiz}
    if dropped:
        logger.warning("%d questions have no right choice and are left out, as published", dropped)


def is_yes_no(question: str, choices: Sequence[str]) -> bool:
    """Whether CaptionQA counts a question as yes/no: "yes" and "no" are in choices, or an auxiliary verb begins it.

    >>> is_yes_no("Is it red or blue?", ["red", "blue"]), is_yes_no("Which?", ["red", "blue"])
    (True, False)
    """
    plain = [choice.strip().lower() for choice in choices]
    both = any("yes" in choice for choice in plain) and any("no" in choice for choice in plain)
    return both or question.strip().lower().startswith(tuple(f"{verb} " for verb in AUXILIARIES))


def captionqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """Images with questions; rows without a question are skipped."""
    if not row["quiz"]:
        return
    images = listed(row["images"]) if not isinstance(row["images"], str) else [row["images"]]
    media = tuple(medium for image in images for medium in picture(image))
    meta = {"domain": str(row["domain"])} if row.get("domain") else {}
    yield Item(str(row["id"]), "caption", LONG_CAPTION, {"quiz": row["quiz"]}, media, meta)


def captionqa_metrics(records: Sequence[Record]) -> Metrics:
    """Score, accuracy and the rate of "cannot answer", over questions, also by domain; the share of unread replies."""
    numbers = _quiz(records)
    for name, group in groups(records, "domain").items():
        numbers |= prefixed(name, _quiz(group))
    return {**numbers, "length": mean_words(records), "unparsed": unparsed_share(records, "judge_captionqa")}


@by_protocol
async def captionqa_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean over questions that a judge answers from the caption alone (CaptionQA).

    Gold: `quiz`, a list of {options, right, cannot, question}, with `right` and `cannot` as places in options. A right
    option scores 1, "cannot answer" 1 / (other options) + 0.05, a wrong option or an unreadable reply 0. `why` holds
    the counts as JSON.
    """
    caption, quiz = answer_text(rollout.answered), gold(rollout, "quiz")
    if not isinstance(quiz, Sequence) or not quiz:
        return abstain("gold has no quiz")
    if not caption:
        return unparsed(json.dumps({"n": len(quiz), "right": 0, "cannot": 0, "unread": 0, "score": 0.0}))
    outcomes = await asyncio.gather(*(_answered(judge, caption, entry) for entry in quiz))
    kinds = Counter(kind for kind, _ in outcomes)
    total = sum(score for _, score in outcomes)
    counts = {"n": len(quiz), "right": kinds["right"], "cannot": kinds["cannot"], "unread": kinds["unread"]}
    return Verdict(total / len(quiz), json.dumps({**counts, "score": total, "prompt": prompt("captionqa").name}))


async def _answered(judge: Judge, caption: str, entry: Mapping[str, Any]) -> tuple[str, float]:
    """The outcome of a question and its score; a Fault if the judge does not reply."""
    options = [str(option) for option in entry["options"]]
    letters = ascii_uppercase[: len(options)]
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    data = {"caption": caption, "question": "\n".join([str(entry["question"]), *lines])}
    try:
        letter = await reply_of(judge, prompt("captionqa"), functools.partial(_one_letter, letters=letters), data=data)
    except Fault as fault:
        if fault.cause != "unreadable":
            raise
        return "unread", 0.0
    place = letters.index(letter)
    if place == entry["right"]:
        return "right", 1.0
    return ("cannot", 1 / (len(options) - 1) + 0.05) if place == entry["cannot"] else ("wrong", 0.0)


def _one_letter(reply: str, *, letters: str) -> str:
    predicted = _LETTER.fullmatch(reply)
    if not predicted or predicted[1].upper() not in letters:
        raise Unreadable(f"{reply!r:.50} is not one of the letters {letters}")
    return predicted[1].upper()


def _quiz(records: Iterable[Record]) -> Metrics:
    counts = [json.loads(record.why["judge_captionqa"]) for record in records if _counted(record)]
    n = sum(count["n"] for count in counts)
    names = ("captionqa", "score"), ("accuracy", "right"), ("cannot_answer", "cannot"), ("unread", "unread")
    return {f"judge_{name}": ratio(sum(count[key] for count in counts), n) for name, key in names}


def _counted(record: Record) -> bool:
    return record.scores.get("judge_captionqa") is not None and record.why["judge_captionqa"].startswith("{")


BENCHMARKS = [
    Benchmark(
        name="captionqa",
        about="A detailed description. A judge answers questions from the caption alone.",
        hub="Borise/CaptionQA",
        columns=("id", "images", "questions"),
        items=captionqa_items,
        scorers={},
        metrics=captionqa_metrics,
        known_by="judge_captionqa",
        split="all",
        read=quizzed,
        needs="a judge (published: Qwen2.5-72B)",
        judged={"judge_captionqa": default("eval.benchmarks.published.captionqa:captionqa_judged")},
    ),
]
