"""Texts in documents, charts and photographs: DocVQA, InfographicVQA, ChartQA, OCRBench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.cells import SHORT, listed, listed_texts, picture, picture_name
from eval.benchmarks.metrics import groups, micro, prefixed, scored_by, unparsed_share
from eval.benchmarks.scoring import text_and_golds
from eval.records import Record
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, per_rollout
from rewards.parse.extract import composed, undressed

_ANLS = {"accuracy": default("anls"), "legacy": variant("anls", legacy=True)}
_RELAXED = {
    "accuracy": default("relaxed_match"),
    **{name: variant("relaxed_match", variant=name) for name in ("raw", "strict_year", "lenient_number")},
}
CONTAINED = {
    "accuracy": default("eval.benchmarks.published.documents:contains_match"),
    "fullwidth": variant("eval.benchmarks.published.documents:contains_match", fullwidth=True),
}
POINTS = {  # the kinds of question in each part of OCRBench
    "recognition": (
        *("Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition"),
        *("Handwriting Recognition", "Digit String Recognition", "Non-Semantic Text Recognition"),
    ),
    "scene_vqa": ("Scene Text-centric VQA",),
    "document_vqa": ("Doc-oriented VQA",),
    "key_information": ("Key Information Extraction",),
    "formulas": ("Handwritten Mathematical Expression Recognition",),
}
_HIDDEN = "the server of the challenge: answers are not public; export the run as `docvqa`, and submit that"
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def docvqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of DocVQA or InfographicVQA; a document's questions share its id."""
    meta = {"document": str(row.get("docId")), "kind": listed(row.get("question_types") or [])}
    golds = {"text": listed_texts(row["answers"]) if row["answers"] is not None else []}
    yield short_item(row["questionId"], "ocr", f"{row['question']}\n{SHORT}", row, golds, meta)


def chartqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of ChartQA; the answer is a text or a list of one."""
    answer = row["answer"] if isinstance(row["answer"], str) else listed(row["answer"])[0]
    text = f"{row['question']}\n{SHORT}"
    yield short_item(row.get("question_id"), "chart", text, row, {"text": [answer]}, {"kind": str(row["type"])})


def ocrbench_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of OCRBench: any of the answers, contained in the reply."""
    golds = row["answer"] if not isinstance(row["answer"], str) else [row["answer"]]
    answer = {"text": listed_texts(golds), "formula": row["dataset"] == "HME100k"}
    meta = {"kind": row["question_type"], "dataset": row["dataset"]}
    yield short_item(row.get("id"), "ocr", str(row["question"]), row, answer, meta)


def ocrbench_metrics(records: Sequence[Record]) -> Metrics:
    """The number of right answers in all (of 1,000), in each part and of each kind, and their share."""
    kinds = groups(records, "kind")
    parts = {name: [record for kind in part for record in kinds.get(kind, [])] for name, part in POINTS.items()}
    return {
        "points": _points(records),
        "accuracy": micro(records),
        "fullwidth": micro(records, "fullwidth"),
        **prefixed("points", {name: _points(part) for name, part in (parts | kinds).items() if part}),
        "unparsed": unparsed_share(records),
    }


@per_rollout
def contains_match(rollout: Rollout, *, fullwidth: bool = False) -> Verdict:
    """1 if a gold text is contained in the answer (OCRBench; gold: `text`, any of, and `formula`, whether it is one).

    Texts are compared in lower case, without dress, with newlines as blanks. A formula keeps its case and loses all
    blanks. `fullwidth` converts full-width ASCII, but not in formulas.

    >>> [one.score for one in contains_match([Rollout("It says STOP now", "stop"), Rollout("x ^ 2", "y")])]
    [1.0, 0.0]
    """
    read = text_and_golds(rollout)
    if isinstance(read, Verdict):
        return read
    text, golds = read
    formula = isinstance(rollout.answer, Mapping) and bool(rollout.answer.get("formula"))
    predicted, rights = (_plain(text, formula, fullwidth), [_plain(right, formula, fullwidth) for right in golds])
    return Verdict(float(any(right in predicted for right in rights if right)), f"answered {predicted[:80]}")


def submission(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The submission to the challenge of DocVQA and InfographicVQA: the answer to each question."""
    answers = []
    for record in records:
        number = str(record.meta["item"])
        answers.append({"questionId": int(number) if number.isdigit() else number, "answer": record.answer_text or ""})
    return sorted(answers, key=lambda answer: str(answer["questionId"]))


def _points(records: Sequence[Record]) -> float | None:
    return sum(record.scores.get("accuracy") or 0.0 for record in records) if records else None


def short_item(
    name: object, task: str, text: str, row: Row, answer: Mapping[str, Any], meta: Mapping[str, Any]
) -> Item:
    """The item of a row; without a name, its question and image serve as its id."""
    known = str(name or f"{row['question']}|{picture_name(row['image'])}")
    return Item(known, task, text, dict(answer), picture(row["image"]), dict(meta), named=not name)


def _plain(text: str, formula: bool, fullwidth: bool) -> str:
    if formula:
        return "".join(text.split())
    text = undressed(composed(text)).lower().strip().replace("\n", " ")
    return text.translate(_FULL_WIDTH) if fullwidth else text


_documents = partial(
    Benchmark,
    hub="lmms-lab/DocVQA",
    columns=("questionId", "question", "image", "answers"),
    items=docvqa_items,
    scorers=_ANLS,
    metrics=scored_by(),
)
BENCHMARKS = [
    _documents(
        name="docvqa",
        version=2,
        about="A phrase from a scanned page. ANLS.",
        metrics=scored_by("kind"),
        split="validation",
        rows=5349,
        folders=("DocVQA",),
    ),
    _documents(
        name="infovqa",
        version=2,
        about="A phrase from an infographic. ANLS.",
        split="validation",
        rows=2801,
        folders=("InfographicVQA",),
    ),
    *(
        _documents(
            name=name,
            version=2,
            about=f"{folder} with hidden answers: no number here, but a file to submit.",
            rows=rows,
            needs=_HIDDEN,
            folders=(folder,),
        )
        for name, folder, rows in (("docvqa_test", "DocVQA", 5188), ("infovqa_test", "InfographicVQA", 3288))
    ),
    Benchmark(
        name="chartqa",
        version=2,
        about="A number or a phrase from a chart. Relaxed accuracy: numbers may be 5 % off.",
        hub="lmms-lab/ChartQA",
        columns=("type", "question", "answer", "image"),
        items=chartqa_items,
        scorers=_RELAXED,
        metrics=scored_by("kind"),
        rows=2500,
    ),
    Benchmark(
        name="ocrbench",
        version=2,
        about="Free text that must contain the answer. Points of 1,000, in all and by part.",
        hub="echo840/OCRBench",
        columns=("dataset", "question", "question_type", "answer", "image"),
        items=ocrbench_items,
        scorers=CONTAINED,
        metrics=ocrbench_metrics,
        known_by="points",
        rows=1000,
    ),
]
