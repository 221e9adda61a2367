"""MMMU: college exam questions with pictures at their places, choices and open answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eval.benchmarks.base import (
    Benchmark,
    Item,
    Row,
    choice_answer,
    choice_text,
    default,
    letter_index,
    listed,
    picture,
    variant,
)
from eval.benchmarks.metrics import scored_by
from mmrl.core.vision import CoordinateSpace

DISCIPLINES = {
    "art_design": ("Art", "Art_Theory", "Design", "Music"),
    "business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "health_medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "humanities": ("History", "Literature", "Psychology", "Sociology"),
    "engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
_DISCIPLINE_OF = {subject: name for name, subjects in DISCIPLINES.items() for subject in subjects}
_MARKER = re.compile(r"<image (\d)>")
OPEN = "Answer the question using a single word or phrase."


def mmmu(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row: options are the text of a list, pictures stand at their markers; those without a marker come first."""
    options = [str(one) for one in listed(row["options"])]
    chosen = row["question_type"] == "multiple-choice"
    question = str(row["question"])
    text = choice_text(question, options) if chosen else f"{question}\n{OPEN}"
    order = [int(number) for number in _MARKER.findall(text)]
    left = [n for n in range(1, 8) if n not in order and picture(row.get(f"image_{n}"))]
    text = "<image>" * len(left) * bool(order) + _MARKER.sub("<image>", text)
    golds = listed(row["answer"]) if str(row["answer"]).startswith("[") else [row["answer"]]
    subject = re.sub(r"^(?:dev|test|validation)_|_\d+$", "", str(row["id"]))
    yield Item(
        id=str(row["id"]),
        task="choice" if chosen else "text",
        text=text,
        answer=choice_answer(options, letter_index(row["answer"])) if chosen else {"text": [str(one) for one in golds]},
        media=tuple(one for n in [*left, *order] for one in picture(row.get(f"image_{n}"))),
        meta={"subject": subject, "discipline": _DISCIPLINE_OF.get(subject, "other")},
    )


BENCHMARKS = [
    Benchmark(
        "mmmu_val",
        "MMMU/MMMU",
        ("id", "question", "options", "answer", "question_type", "image_1"),
        mmmu,
        {
            "accuracy": default("eval.scorers.tasks:mmmu"),
            "official": variant("eval.scorers.tasks:mmmu", official=True),
            "math": variant("eval.scorers.tasks:mmmu", math=True),
        },
        scored_by("discipline", "subject"),
        "validation",
        900,
    )
]
