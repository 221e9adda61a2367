"""Mathematics with figures: MathVista, MathVerse, MATH-Vision.

By rule, and beside it by a judge: MathVerse's published protocol lets one extract and compare, MathVista's extract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.benchmarks.base import (
    Benchmark,
    Item,
    Metrics,
    Row,
    choice_answer,
    choice_text,
    default,
    letter_index,
    listed,
    picture,
    variant,
)
from eval.benchmarks.metrics import groups, mean, micro, scored_by
from eval.records import Record
from mmrl.core.vision import CoordinateSpace

VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
STEPS = "Think step by step and give the final answer in one \\boxed{}."
MATH = {
    "accuracy": default("eval.scorers.tasks:mathematics"),
    "published_2dp": variant("eval.scorers.tasks:mathematics", decimals=2),
}


def mathvista(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MathVista, with the hint that its type of answer asks for."""
    choices = [str(one) for one in listed(row["choices"] or [])]
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


def mathverse(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MathVerse, asked as its `query_wo` says; choices list their options in the question."""
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
    """Each version, and the mean of the five; Text Only is a set of its own and never in that mean."""
    versions = groups(records, "version")
    found = scored_by("version", "subject")([one for name in VERSIONS for one in versions.get(name, [])])
    for prefix, reward in (("", "accuracy"), ("judge_published.", "judge_published")):
        if any(reward in record.scores for record in records):
            five = [micro(versions[name], reward) for name in VERSIONS if name in versions]
            text_only = micro(versions.get("Text Only", []), reward)
            found |= {f"{prefix}mean_of_versions": mean(five), f"{prefix}text_only": text_only}
    return found


def mathvision(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MATH-Vision; with options a letter or the value of its option is right."""
    options = [str(one) for one in listed(row["options"])]
    text, right = re.sub(r"<image\d>", "", str(row["question"])).strip(), str(row["answer"]).strip()
    yield Item(
        id=str(row["id"]),
        task="choice" if options else "math",
        text=choice_text(text, options, ask=STEPS),
        answer=choice_answer(options, letter_index(right)) if options else {"math": right},
        media=picture(row["decoded_image"]),
        meta={"subject": row["subject"], "level": row["level"]},
    )


def _hint(kind: str, precision: int) -> str:
    if kind == "integer":
        return "Answer with an integer."
    if kind == "float":
        return f"Answer with a number of {precision or 1} decimal place{'s' if precision > 1 else ''}."
    return "Answer with a Python list." if kind == "list" else "Answer with a word or phrase."


def _listed_options(question: str) -> list[str]:
    """The options of lines "A:30°"; four nameless ones where there are none.

    >>> _listed_options("Find x\\nChoices:\\nA:30\\nB:40")
    ['30', '40']
    """
    found = re.findall(r"^\(?([A-H])[:.)]\s*(.+?)\s*$", question, flags=re.MULTILINE)
    return [text for _, text in found] if len(found) >= 2 else [f"option {one}" for one in "ABCD"]


_VISTA = ("pid", "question", "decoded_image", "choices", "answer", "question_type", "answer_type")
_VERSE = ("sample_index", "problem_index", "problem_version", "image", "answer", "question_type", "query_wo")
_VISION = ("id", "question", "options", "decoded_image", "answer", "level", "subject")
BENCHMARKS = [
    Benchmark(
        "mathvista",
        "AI4Math/MathVista",
        _VISTA,
        mathvista,
        {
            "accuracy": default("eval.scorers.exams:mathvista_match"),
            "nearest_choice": variant("eval.scorers.exams:mathvista_match", nearest_choice=True),
        },
        scored_by("task", "skills", "source", "category"),
        "testmini",
        1000,
        judged={"judge_extract": variant("eval.scorers.published:mathvista")},
    ),
    Benchmark(
        "mathverse",
        "AI4Math/MathVerse",
        (*_VERSE, "question_for_eval"),
        mathverse,
        MATH,
        mathverse_metrics,
        "testmini",
        3940,
        judged={"judge_published": variant("eval.scorers.published:mathverse")},
    ),
    Benchmark("mathvision", "MathLLMs/MathVision", _VISION, mathvision, MATH, scored_by("subject", "level"), rows=3040),
]
