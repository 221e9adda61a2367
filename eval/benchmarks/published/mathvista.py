"""MathVista: questions about figures with a letter, a number or a list as their answer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

from rapidfuzz.distance import Levenshtein

from eval.benchmarks.base import Benchmark, Item, Row, default, variant
from eval.benchmarks.cells import listed, listed_texts, picture
from eval.benchmarks.metrics import scored_by
from eval.benchmarks.published.mathverse import EXTRACT, extracted_answer
from eval.benchmarks.scoring import PLAIN_NUMBER, by_protocol
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, per_rollout, unparsed
from rewards.judge_client.client import Judge
from rewards.parse.choices import choice_letter
from rewards.parse.extract import answer_text, finite, reply
from rewards.parse.numbers import number


def mathvista_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MathVista, with the hint for its type of answer."""
    choices = listed_texts(row["choices"] or [])
    kind, precision = str(row["answer_type"]), int(float(row.get("precision") or 0))
    unit = f" (unit: {row['unit']})" if row.get("unit") else ""
    lines = [f"({letter}) {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False)]
    hint = "Answer with the letter of the right option." if choices else _hint(kind, precision)
    metadata: Any = row.get("metadata") or {}
    answer = {"text": str(row["answer"]), "answer_type": kind, "precision": precision, "choices": choices}
    names = ("task", "category", "source", "skills")
    yield Item(
        id=str(row["pid"]),
        task="choice" if choices else "text",
        text="\n".join([f"Hint: {hint}", f"Question: {row['question']}{unit}", *lines]),
        answer=answer,
        media=picture(row["decoded_image"]),
        meta={
            name: listed(metadata[name]) if name == "skills" else metadata[name] for name in names if name in metadata
        },
    )


@per_rollout
def mathvista_match(rollout: Rollout, *, nearest_choice: bool = False) -> Verdict:
    """1 if the answer is MathVista's (gold: `text`, `answer_type`, `precision`, `choices` where it is a choice).

    A choice is compared by the text of its option, an integer after truncation, a float after rounding to `precision`,
    a list as a Python literal. With `nearest_choice`, an answer without an option gets the one with the smallest edit
    distance.

    >>> gold = {"text": "0.67", "answer_type": "float", "precision": 2}
    >>> mathvista_match([Rollout("0.6667", gold)])[0].score
    1.0
    """
    answer = rollout.answer
    if not isinstance(answer, Mapping) or not isinstance(answer.get("text"), str):
        return abstain("gold has no text")
    text, right = answer_text(rollout.answered), answer["text"].strip()
    if not right:
        return abstain("the answer is not public")
    if not text:
        return unparsed("empty answer")
    if choices := answer.get("choices"):
        said = reply(rollout.answered) or text
        predicted = _chosen(said, text, [str(choice) for choice in choices], nearest_choice)
        return (
            unparsed("no choice") if predicted is None else Verdict(float(predicted == right), f"answered {predicted}")
        )
    if answer.get("answer_type") == "list":
        values, wanted = _literal(text), _literal(right)
        return unparsed("no list") if values is None else Verdict(float(values == wanted), f"answered {values}")
    if answer.get("answer_type") == "text":
        return Verdict(float(text.strip() == right), f"answered {text[:80]}")
    value = number(text, thousands=True)
    target = finite(right) if PLAIN_NUMBER.fullmatch(right) else None
    if value is None or target is None:
        return unparsed("no number") if value is None else abstain(f"gold {right!r} is not a number")
    if answer.get("answer_type") == "integer":
        return Verdict(float(int(value) == int(target)), f"answered {int(value)}")
    digits = int(answer.get("precision") or 1)
    return Verdict(float(str(round(value, digits)) == str(round(target, digits))), f"answered {value:g}")


@by_protocol
async def mathvista_extracted(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The score by rule of the answer that a judge extracts (MathVista)."""
    predicted = await extracted_answer(rollout, judge)
    if predicted is None:
        return unparsed("the judge finds no final answer")
    verdict = mathvista_match([replace(rollout, completion=predicted)])[0]
    return replace(verdict, why=f"{EXTRACT}: {predicted[:80]}; {verdict.why}")


def _hint(kind: str, precision: int) -> str:
    if kind == "integer":
        return "Answer with an integer."
    if kind == "float":
        return f"Answer with a number of {precision or 1} decimal place{'s' if precision > 1 else ''}."
    return "Answer with a Python list." if kind == "list" else "Answer with a word or phrase."


def _chosen(said: str, text: str, choices: Sequence[str], nearest: bool) -> str | None:
    letters = ascii_uppercase[: len(choices)]
    if letter := choice_letter(said, letters, choices):
        return choices[letters.index(letter)].strip()
    return min(choices, key=lambda choice: Levenshtein.distance(text, choice)).strip() if nearest else None


def _literal(text: str) -> list[Any] | None:
    match = re.search(r"\[[^\[\]]*\]", text)
    if not match:
        return None
    try:
        values = ast.literal_eval(match.group())
        return [float(value) if isinstance(value, int | float) else value for value in values]
    except (ValueError, SyntaxError, TypeError, OverflowError):
        return None


_VISTA = ("pid", "question", "decoded_image", "choices", "answer", "question_type", "answer_type")


BENCHMARKS = [
    Benchmark(
        name="mathvista",
        version=2,
        about="A letter, a number or a list, as the hint asks. Accuracy by task and skill.",
        hub="AI4Math/MathVista",
        columns=_VISTA,
        items=mathvista_items,
        scorers={
            "accuracy": default("eval.benchmarks.published.mathvista:mathvista_match"),
            "nearest_choice": variant("eval.benchmarks.published.mathvista:mathvista_match", nearest_choice=True),
        },
        metrics=scored_by("task", "skills", "source", "category"),
        split="testmini",
        rows=1000,
        judged={"judge_extract": variant("eval.benchmarks.published.mathvista:mathvista_extracted")},
    ),
]
