"""MathVerse and MATH-Vision: mathematics with figures, by rule and by a judge that extracts and compares."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.cells import choice_answer, choice_text, letter_index, listed_texts, picture
from eval.benchmarks.metrics import groups, mean, micro, scored_by
from eval.benchmarks.scoring import PLAIN_NUMBER, by_protocol, by_task, prompt
from eval.records import Record
from mmrl.core.messages import user_text
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout, Verdict, get
from rewards.base import abstain, gold, per_rollout, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import verdict_of
from rewards.parse.choices import choice_letter
from rewards.parse.extract import answer_text, boxed, finite, reply
from rewards.parse.numbers import number
from rewards.rules.math_match import math_match

VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
STEPS = "Think step by step and give the final answer in one \\boxed{}."
MATH = {
    "accuracy": default("eval.benchmarks.published.mathverse:letter_or_expression"),
    "published_2dp": variant("eval.benchmarks.published.mathverse:letter_or_expression", decimals=2),
}
_SETTING = re.compile(r"[\s$]|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\[,;!]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2}")
EXTRACT = prompt("mathverse_extract").name


def mathverse_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MathVerse, with `query_wo` as the prompt; the question of a choice lists its options."""
    question, right = str(row["question_for_eval"]), str(row["answer"]).strip()
    chosen = row["question_type"] == "multi-choice"
    metadata: Mapping[str, Any] = row.get("metadata") or {}
    yield Item(
        id=str(row["sample_index"]),
        task="choice" if chosen else "math",
        text=str(row["query_wo"]),
        answer=choice_answer(_listed_options(question), letter_index(right)) if chosen else {"math": right},
        media=picture(row["image"]),
        meta={"version": row["problem_version"], "subject": metadata.get("subject"), "problem": row["problem_index"]},
        group=str(row["problem_index"]),
    )


def mathverse_metrics(records: Sequence[Record]) -> Metrics:
    """The accuracy of each version, and the mean of the five; Text Only is not in that mean."""
    versions = groups(records, "version")
    numbers = scored_by("version", "subject")([record for name in VERSIONS for record in versions.get(name, [])])
    for prefix, reward in (("", "accuracy"), ("judge_published.", "judge_published")):
        if any(reward in record.scores for record in records):
            five = [micro(versions[name], reward) for name in VERSIONS if name in versions]
            text_only = micro(versions.get("Text Only", []), reward)
            numbers |= {f"{prefix}mean_of_versions": mean(five), f"{prefix}text_only": text_only}
    return numbers


def mathvision_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MATH-Vision; with options, the letter or the value of the right option counts."""
    options = listed_texts(row["options"])
    text, right = re.sub(r"<image\d>", "", str(row["question"])).strip(), str(row["answer"]).strip()
    yield Item(
        id=str(row["id"]),
        task="choice" if options else "math",
        text=choice_text(text, options, ask=STEPS),
        answer=choice_answer(options, letter_index(right)) if options else {"math": right},
        media=picture(row["decoded_image"]),
        meta={"subject": row["subject"], "level": row["level"]},
    )


def letter_or_expression(rollouts: Sequence[Rollout], *, decimals: int | None = None) -> list[Verdict]:
    """A choice by its letter or the value of its option, other items by an equivalent expression. With `decimals`,
    values are compared after rounding; if one of the two is not a plain value, expressions are compared as before."""
    choice = functools.partial(letter_or_value, decimals=decimals)
    verdicts = by_task(rollouts, {"choice": choice}, get("math_match"))
    if decimals is not None:
        open_ = [i for i, rollout in enumerate(rollouts) if rollout.task != "choice"]
        for i, verdict in zip(open_, rounded_match([rollouts[i] for i in open_], decimals=decimals), strict=True):
            verdicts[i] = verdict if verdict.kind == "scored" else verdicts[i]
    return verdicts


@per_rollout
def letter_or_value(rollout: Rollout, *, decimals: int | None = None) -> Verdict:
    """1 for the gold letter, or for the value of its option (MATH-Vision; gold: `choice`, `options`).

    A value is compared as text, as a number within 1e-6, or with `decimals` after rounding, and as an expression. A
    part of an expression does not select an option: \\sqrt{3} is not the option 3.

    >>> gold = {"choice": "B", "options": ["1/2", "0.25"]}
    >>> [one.score for one in letter_or_value([Rollout(r"\\\\boxed{0.250}", gold), Rollout("A", gold)])]
    [1.0, 0.0]
    """
    right, options = gold(rollout, "choice"), [str(option) for option in rollout.answer["options"]]
    text = answer_text(rollout.answered)
    if not text:
        return unparsed("no answer")
    letters = ascii_uppercase[: len(options)]
    same = [letter for letter, option in zip(letters, options, strict=True) if _formula(option) == _formula(text)]
    expression = not _WORD.search(_COMMAND.sub(" ", text))
    letter = choice_letter(reply(rollout.answered) or "", letters) or (same[0] if len(same) == 1 else None)
    if letter := letter or (None if expression else choice_letter(text, letters, options)):
        return Verdict(float(letter == right), f"answered {letter}")
    predicted, target = plain_value(text), options[letters.index(right)]
    predicted = number(text) if predicted is None and "\\" not in text else predicted
    value = plain_value(target)
    if expression and None in (predicted, value):
        verdict = math_match([Rollout(text, {"math": target})])[0]
        return verdict if verdict.kind != "abstained" else unparsed("neither a letter nor the value of an option")
    if predicted is None:
        return unparsed("neither a letter nor a value")
    return Verdict(float(value is not None and same_number(predicted, value, decimals)), f"answered {predicted:g}")


@per_rollout
def rounded_match(rollout: Rollout, *, decimals: int = 2) -> Verdict:
    """1 if the answer's number equals the gold one after rounding, so that 0.333 is 1/3 (gold: `math`).

    >>> [one.score for one in rounded_match([Rollout("0.333", {"math": "1/3"}), Rollout("0.004", {"math": "0.001"})])]
    [1.0, 1.0]
    """
    target = plain_value(str(gold(rollout, "math")))
    if target is None:
        return abstain("gold math is not a number")
    text = answer_text(rollout.answered)
    value = plain_value(boxed(text)) if text else None
    if value is None:
        return unparsed("no number")
    return Verdict(float(same_number(value, target, decimals)), f"answered {value:g}")


def plain_value(text: str) -> float | None:
    r"""A decimal or a simple fraction as a number.

    >>> plain_value("1/4"), plain_value(r"\frac{1}{2}"), plain_value("x")
    (0.25, 0.5, None)
    """
    plain = re.sub(r"\\d?frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2", text.strip().strip("$").rstrip("."))
    parts = [part.strip() for part in plain.split("/")]
    if len(parts) > 2 or not all(PLAIN_NUMBER.fullmatch(part) for part in parts):
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


@by_protocol
async def mathverse_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if the answer that a judge extracts equals the gold answer, literally or by a judge (MathVerse; gold:
    `choice` or `math`)."""
    answer: Any = rollout.answer
    right = str(answer["choice"] if "choice" in answer else answer["math"])
    predicted = await extracted_answer(rollout, judge)
    if predicted is None:
        return unparsed("the judge finds no final answer")
    if predicted.strip() == right.strip():
        return Verdict(1.0, f"{EXTRACT}: {predicted[:80]}, literally the gold answer")
    data = {"question": user_text(rollout.prompt), "reference": right, "response": predicted}
    same = await verdict_of(judge, prompt("mathverse_score"), data=data, parse=_same)
    return Verdict(float(same), f"{EXTRACT}: {predicted[:80]}; {prompt('mathverse_score').name}: {same}")


async def extracted_answer(rollout: Rollout, judge: Judge) -> str | None:
    """The final answer of a solution, extracted by a judge; None if it has none."""
    predicted = answer_text(rollout.answered)
    if not predicted:
        return None
    data = {"question": user_text(rollout.prompt), "response": predicted}
    return await verdict_of(judge, prompt("mathverse_extract"), data=data, parse=_answer)


def _answer(reply: dict[str, Any]) -> str | None:
    answer = reply.get("answer")
    if answer is not None and not isinstance(answer, str):
        raise Unreadable(f"answer is {answer!r:.50}, neither a text nor null")
    return answer if answer and answer.strip() else None


def _same(reply: dict[str, Any]) -> bool:
    if not isinstance(reply.get("same"), bool):
        raise Unreadable(f"same is {reply.get('same')!r:.50}, neither true nor false")
    return reply["same"]


def _formula(text: str) -> str:
    """An option as text, without blanks and without commands of layout."""
    return _SETTING.sub("", text).replace("dfrac", "frac").rstrip(".").casefold()


def _listed_options(question: str) -> list[str]:
    """The options of lines "A:30°"; four nameless ones if there are none.

    >>> _listed_options("Find x\\nChoices:\\nA:30\\nB:40")
    ['30', '40']
    """
    matches = re.findall(r"^\(?([A-H])[:.)]\s*(.+?)\s*$", question, flags=re.MULTILINE)
    return [text for _, text in matches] if len(matches) >= 2 else [f"option {letter}" for letter in "ABCD"]


_VERSE = ("sample_index", "problem_index", "problem_version", "image", "answer", "question_type", "query_wo")
_VISION = ("id", "question", "options", "decoded_image", "answer", "level", "subject")


BENCHMARKS = [
    Benchmark(
        name="mathverse",
        version=2,
        about="A letter or an expression, in six versions of a problem. The mean over five; Text Only is apart.",
        hub="AI4Math/MathVerse",
        columns=(*_VERSE, "question_for_eval"),
        items=mathverse_items,
        scorers=MATH,
        metrics=mathverse_metrics,
        known_by="mean_of_versions",
        split="testmini",
        rows=3940,
        judged={"judge_published": variant("eval.benchmarks.published.mathverse:mathverse_judged")},
    ),
    Benchmark(
        name="mathvision",
        version=2,
        about="A letter, an option's value or an expression. Accuracy by subject and level.",
        hub="MathLLMs/MathVision",
        columns=_VISION,
        items=mathvision_items,
        scorers=MATH,
        metrics=scored_by("subject", "level"),
        rows=3040,
    ),
]
