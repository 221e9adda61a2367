"""Documents, charts and texts in pictures: DocVQA, InfographicVQA, ChartQA, VQAv2, TextVQA, VizWiz, GQA, OCR-VQA,
OCRBench."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.base import SHORT, Benchmark, Item, Metrics, Row, default, listed, picture, picture_name, variant
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import groups, micro, prefixed, scored_by, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

VQA = {
    "accuracy": default("eval.scorers.vqa:vqa_accuracy"),
    "official": variant("eval.scorers.vqa:vqa_accuracy", variant="official"),
}
CONTAINED = {
    "accuracy": default("eval.scorers.vqa:contains_match"),
    "fullwidth": variant("eval.scorers.vqa:contains_match", fullwidth=True),
}
POINTS = {  # OCRBench's kinds of question, as its parts are summed
    "recognition": (
        "Regular Text Recognition",
        "Irregular Text Recognition",
        "Artistic Text Recognition",
        "Handwriting Recognition",
        "Digit String Recognition",
        "Non-Semantic Text Recognition",
    ),
    "scene_vqa": ("Scene Text-centric VQA",),
    "document_vqa": ("Doc-oriented VQA",),
    "key_information": ("Key Information Extraction",),
    "formulas": ("Handwritten Mathematical Expression Recognition",),
}


def docvqa(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of DocVQA or InfographicVQA; a document's questions share its id."""
    meta = {"document": str(row.get("docId")), "kind": listed(row.get("question_types") or [])}
    golds = {"text": [str(one) for one in listed(row["answers"])] if row["answers"] is not None else []}
    yield _asked(row["questionId"], "ocr", row, golds, meta)


def chartqa(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of ChartQA; the answer is a text or a list of one."""
    answer = row["answer"] if isinstance(row["answer"], str) else listed(row["answer"])[0]
    text = f"{row['question']}\n{SHORT}"
    yield _item(row.get("question_id"), "chart", text, row, {"text": [answer]}, {"kind": str(row["type"])})


def vqa(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row with up to ten annotators' answers, as texts or as mappings with the key `answer`."""
    answers = [str(one["answer"] if isinstance(one, Mapping) else one) for one in listed(row["answers"])]
    meta = {"kind": row.get("answer_type")}
    yield _asked(row.get("question_id"), "text", row, {"text": answers[:1], "answers": answers}, meta)


def exact(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row with one answer."""
    yield _asked(row.get("id"), "text", row, {"text": [str(row["answer"])]}, {})


def gqa_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of GQA; its hub's dataset keeps pictures (id, image) in other files than questions (imageId)."""
    pictures: dict[Any, Any] = {}
    asked: list[Row] = []
    for file in files:
        for row in rows_of([file], ("id",)):
            if "question" in row:
                asked.append(row)
            elif "image" in row:
                pictures[row["id"]] = row["image"]
    for row in asked:
        whole = {"image": pictures[row["imageId"]], **row} if row.get("imageId") in pictures else row
        if missing := [name for name in columns if name not in whole]:
            raise InputError(f"question {row['id']} has no {', '.join(missing)}; it has {', '.join(whole)}")
        yield whole


def ocrbench(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of OCRBench: any of the answers, contained in the reply."""
    golds = row["answer"] if not isinstance(row["answer"], str) else [row["answer"]]
    answer = {"text": [str(one) for one in listed(golds)], "formula": row["dataset"] == "HME100k"}
    meta = {"kind": row["question_type"], "dataset": row["dataset"]}
    yield _item(row.get("id"), "ocr", str(row["question"]), row, answer, meta)


def ocrbench_metrics(records: Sequence[Record]) -> Metrics:
    """Right answers in all (of 1,000), in each part and of each kind, and as a share."""
    kinds = groups(records, "kind")
    parts = {name: [one for kind in part for one in kinds.get(kind, [])] for name, part in POINTS.items()}
    return {
        "points": _points(records),
        "accuracy": micro(records),
        "fullwidth": micro(records, "fullwidth"),
        **prefixed("points", {name: _points(part) for name, part in (parts | kinds).items() if part}),
        "unparsed": unparsed_share(records),
    }


def submission(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What the challenge of DocVQA and InfographicVQA takes: the answer to each question."""
    found = []
    for record in records:
        number = str(record.meta["item"])
        found.append({"questionId": int(number) if number.isdigit() else number, "answer": record.answer_text or ""})
    return sorted(found, key=lambda one: str(one["questionId"]))


def _points(records: Sequence[Record]) -> float | None:
    return sum(record.scores.get("accuracy") or 0.0 for record in records) if records else None


def _asked(name: object, task: str, row: Row, answer: Mapping[str, Any], meta: Mapping[str, Any]) -> Item:
    return _item(name, task, f"{row['question']}\n{SHORT}", row, answer, meta)


def _item(name: object, task: str, text: str, row: Row, answer: Mapping[str, Any], meta: Mapping[str, Any]) -> Item:
    """The item; without a name of its own it is known by its question and picture."""
    known = str(name or f"{row['question']}|{picture_name(row['image'])}")
    return Item(known, task, text, dict(answer), picture(row["image"]), dict(meta), named=not name)


def _benchmark(
    name: str, hub: str, columns: str, items: Callable[[Row, CoordinateSpace], Iterator[Item]], **more: object
) -> Benchmark:
    return Benchmark(name, hub, tuple(columns.split()), items, **more)  # pyright: ignore[reportArgumentType]


_ANLS = {"accuracy": default("anls"), "legacy": variant("anls", legacy=True)}
_RELAXED = {
    "accuracy": default("relaxed_match"),
    **{name: variant("relaxed_match", variant=name) for name in ("raw", "strict_year", "lenient_number")},
}
_EXACT = {"accuracy": default("eval.scorers.vqa:exact_match")}
_TEXTVQA = VQA | {"evalai": variant("eval.scorers.vqa:vqa_accuracy", variant="evalai")}
_HIDDEN = "the server of the challenge: answers are not public; export the run as `docvqa`, and submit that"
_VQA = "question image answers"


def _documents(name: str, folder: str, metrics: Callable[[Sequence[Record]], Metrics], **more: object) -> Benchmark:
    """A part of the hub's DocVQA, which holds two benchmarks in folders."""
    columns, more = "questionId question image answers", {"metrics": metrics, "folders": (folder,), **more}
    return _benchmark(name, "lmms-lab/DocVQA", columns, docvqa, rewards=_ANLS, **more)


BENCHMARKS = [
    _documents("docvqa", "DocVQA", scored_by("kind"), split="validation", rows=5349),
    _documents("infovqa", "InfographicVQA", scored_by(), split="validation", rows=2801),
    _documents("docvqa_test", "DocVQA", scored_by(), needs=_HIDDEN, rows=5188),
    _documents("infovqa_test", "InfographicVQA", scored_by(), needs=_HIDDEN, rows=3288),
    _benchmark(
        "chartqa",
        "lmms-lab/ChartQA",
        "type question answer image",
        chartqa,
        rewards=_RELAXED,
        metrics=scored_by("kind"),
        rows=2500,
    ),
    _benchmark(
        "vqav2", "lmms-lab/VQAv2", _VQA, vqa, rewards=VQA, metrics=scored_by("kind"), split="validation", rows=214354
    ),
    _benchmark(
        "textvqa", "lmms-lab/textvqa", _VQA, vqa, rewards=_TEXTVQA, metrics=scored_by(), split="validation", rows=5000
    ),
    _benchmark("vizwiz", "lmms-lab/VizWiz-VQA", _VQA, vqa, rewards=VQA, metrics=scored_by(), split="val"),
    _benchmark(
        "gqa",
        "lmms-lab/GQA",
        "id question answer image",
        exact,
        rewards=_EXACT,
        metrics=scored_by(),
        split="testdev",
        read=gqa_rows,
        folders=("testdev_balanced_images", "testdev_balanced_instructions"),
    ),
    _benchmark("ocrvqa", "howard-hou/OCR-VQA", "question answer image", exact, rewards=_EXACT, metrics=scored_by()),
    _benchmark(
        "ocrbench",
        "echo840/OCRBench",
        "dataset question question_type answer image",
        ocrbench,
        rewards=CONTAINED,
        metrics=ocrbench_metrics,
        rows=1000,
    ),
]
