"""Yes/no questions about what is not there: POPE, HallusionBench, and AMBER's discriminative part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from eval.benchmarks.amber import amber_questions
from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, picture, variant
from eval.benchmarks.metrics import (
    all_right,
    binary,
    groups,
    mean,
    micro,
    prefixed,
    said_pairs,
    together,
    unparsed_share,
)
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.parse.extract import yes_no

YESNO = {"accuracy": default("yesno_match")}
ATTRIBUTES = ("state", "number", "action")
AMBER_DIMENSIONS = ("existence", *ATTRIBUTES, "relation")


def pope(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of POPE; ids restart in each of its three categories."""
    meta = {"category": row["category"], "image_source": row.get("image_source")}
    name = f"{row['category']}/{row['question_id']}"
    text = f"{row['question']}\nAnswer yes or no."
    yield Item(name, "yesno", text, {"yesno": yes_or_no(row["answer"])}, picture(row["image"]), meta)


def pope_metrics(records: Sequence[Record]) -> Metrics:
    """Accuracy, precision, recall, F1 (positive: yes) and yes ratio of all, of each category, and the categories' mean;
    the same under the published parser."""
    found: Metrics = {}
    for name, parse in (("", yes_no), ("official.", pope_official)):
        parts = {
            category: binary(said_pairs(group, parse), positive=True)
            for category, group in groups(records, "category").items()
        }
        whole = binary(said_pairs(records, parse), positive=True)
        found |= {f"{name}{key}": value for key, value in whole.items()}
        for category, part in parts.items():
            found |= prefixed(f"{name}{category}", part)
        found |= {f"{name}mean.{key}": mean(part[key] for part in parts.values()) for key in ("accuracy", "f1")}
    return found


def pope_official(text: str) -> bool:
    """POPE's published reading: the words of the first sentence, without commas; No, no or not is no, all else yes.

    >>> pope_official("There is not, I think. Yes."), pope_official("mumble")
    (False, True)
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def hallusion(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of HallusionBench; visual_input 0 shows nothing."""
    keys = ("category", "subcategory", "set_id", "figure_id", "question_id")
    meta = {key: str(row[key]) for key in keys}
    media = () if str(row.get("visual_input")) == "0" else picture(row["image"])
    text = f"{row['question']}\nAnswer yes or no."
    right = yes_or_no(row["gt_answer"])
    answer = {"yesno": right, "details": str(row.get("gt_answer_details") or ("Yes." if right else "No."))}
    group = "/".join(meta[key] for key in keys[:3])  # qAcc and fAcc want every question and figure of a set
    yield Item("/".join(meta.values()), "yesno", text, answer, media, meta, group)


def hallusion_metrics(records: Sequence[Record]) -> Metrics:
    """aAcc over questions, qAcc over questions with every figure right, fAcc over figures with every question right.

    fAcc leaves out the figure 0 of VS, which is no image; `fAcc.all_figures` keeps it. The same by a judge.
    """
    found = {**_hallusion(records, "accuracy"), "unparsed": unparsed_share(records)}
    if any("judge_published" in record.scores for record in records):
        found |= prefixed("judge_published", _hallusion(records, "judge_published"))
    return found


def _hallusion(records: Sequence[Record], reward: str) -> Metrics:
    shown = [r for r in records if not (r.meta["category"] == "VS" and r.meta["figure_id"] == "0")]
    within = ["category", "subcategory", "set_id"]

    def share(some: Sequence[Record], key: str) -> float | None:
        return mean(all_right(group, reward) for group in together(some, [*within, key]))

    return {
        "aAcc": micro(records, reward),
        "qAcc": share(records, "question_id"),
        "fAcc": share(shown, "figure_id"),
        "fAcc.all_figures": share(records, "figure_id"),
    }


def amber(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A yes/no row of AMBER: `truth` is yes or no, `type` like discriminative-attribute-state."""
    dimension = str(row["type"]).rsplit("-", 1)[-1].removeprefix("discriminative")
    if dimension not in AMBER_DIMENSIONS:
        dimension = {"hallucination": "existence"}.get(dimension, dimension)
    meta = {"dimension": dimension}
    text = f"{row['query']}\nAnswer yes or no."
    yield Item(str(row["id"]), "yesno", text, {"yesno": yes_or_no(row["truth"])}, picture(row["image"]), meta)


def amber_metrics(records: Sequence[Record]) -> Metrics:
    """Accuracy, precision, recall and F1 with no as the positive answer, of all and of each dimension; `official` wants
    exactly Yes or No and adds 0.001 to denominators."""
    found = binary(said_pairs(records, yes_no), positive=False)
    parts = groups(records, "dimension")
    attributes = [record for name in ATTRIBUTES for record in parts.get(name, [])]
    for name, group in {**parts, **({"attribute": attributes} if attributes else {})}.items():
        found |= prefixed(name, binary(said_pairs(group, yes_no), positive=False))
    exact = binary(said_pairs(records, {"Yes": True, "No": False}.get), positive=False, smooth=0.001)
    return found | prefixed("official", exact)


def yes_or_no(value: Any) -> bool:
    """Whether a gold answer is yes: the word, 1 or 0, true or false.

    >>> yes_or_no("Yes"), yes_or_no(0)
    (True, False)
    """
    plain = re.sub(r"\W", "", str(value)).lower()
    if plain not in ("yes", "no", "1", "0", "true", "false"):
        raise InputError(f"the answer {value!r} is neither yes nor no")
    return plain in ("yes", "1", "true")


_HALLUSION = ("category", "subcategory", "set_id", "figure_id", "question_id", "question", "gt_answer", "image")
BENCHMARKS = [
    Benchmark(
        "pope",
        "lmms-lab/POPE",
        ("question_id", "question", "answer", "category", "image"),
        pope,
        YESNO,
        pope_metrics,
        rows=9000,
    ),
    Benchmark(
        "hallusionbench",
        "lmms-lab/HallusionBench",
        _HALLUSION,
        hallusion,
        YESNO,
        hallusion_metrics,
        "image",
        951,
        version=2,
        judged={"judge_published": variant("eval.scorers.published:hallusion")},
    ),
    Benchmark(
        "amber_discriminative",
        "junyangwang0410/AMBER",
        ("id", "image", "query", "truth", "type"),
        amber,
        YESNO,
        amber_metrics,
        rows=14216,
        read=amber_questions,
    ),
]
