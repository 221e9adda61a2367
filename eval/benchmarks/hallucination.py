"""Saying what is not there: POPE, HallusionBench, AMBER's yes/no questions, and CHAIR on captions.

AMBER's generative part needs its own word lists and a word-similarity model, and is not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from eval.benchmarks.base import Item, Metrics, Row, Task, default, listed, picture, variant
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
from mmrl.config import InputError
from mmrl.vision import CoordinateSpace
from rewards.coco_objects import objects_named
from rewards.extract import yes_no

YESNO = {"accuracy": default("yesno_match")}
AMBER_DIMENSIONS = ("existence", "state", "number", "action", "relation")


def pope(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of POPE; ids restart in each of its three categories."""
    meta = {"category": row["category"]}
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
    yield Item("/".join(meta.values()), "yesno", text, {"yesno": yes_or_no(row["gt_answer"])}, media, meta)


def hallusion_metrics(records: Sequence[Record]) -> Metrics:
    """aAcc over questions, qAcc over questions with every figure right, fAcc over figures with every question right.

    fAcc leaves out the figure 0 of VS, which is no image; `fAcc.all_figures` keeps it.
    """
    shown = [r for r in records if not (r.meta["category"] == "VS" and r.meta["figure_id"] == "0")]
    within = ["category", "subcategory", "set_id"]
    return {
        "aAcc": micro(records),
        "qAcc": mean(map(all_right, together(records, [*within, "question_id"]))),
        "fAcc": mean(map(all_right, together(shown, [*within, "figure_id"]))),
        "fAcc.all_figures": mean(map(all_right, together(records, [*within, "figure_id"]))),
        "unparsed": unparsed_share(records),
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
    for name, group in groups(records, "dimension").items():
        found |= prefixed(name, binary(said_pairs(group, yes_no), positive=False))
    exact = binary(said_pairs(records, {"Yes": True, "No": False}.get), positive=False, smooth=0.001)
    return found | prefixed("official", exact)


def chair(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image with its objects (`objects`, COCO names) and reference captions (`references`)."""
    answer = {"references": [str(one) for one in listed(row["references"])], "objects": listed(row["objects"])}
    text = "Please describe this image in detail."
    yield Item(str(row["image_id"]), "caption", text, answer, picture(row["image"]))


def chair_metrics(records: Sequence[Record]) -> Metrics:
    """CHAIR_i, CHAIR_s (lower is better), recall and mean length in words, over all mentions and captions.

    Objects are those annotated and those that the references mention; mentions repeat. The response and mention rates
    of Object HalBench are here too, by the same rules and not by a judge: a word counts once in a caption.
    """
    mentions = wrong = hit = there = named = bad = 0
    once = once_wrong = 0
    for record in records:
        truth = {one for text in [*record.gold["objects"], *record.gold["references"]] for one in objects_named(text)}
        said = objects_named(record.answer_text or "")
        false = [one for one in said if one not in truth]
        mentions, wrong, bad, named = mentions + len(said), wrong + len(false), bad + bool(false), named + bool(said)
        once, once_wrong = once + len(set(said)), once_wrong + len(set(false))
        hit, there = hit + len(truth & set(said)), there + len(truth)
    return {
        "chair_i": _ratio(wrong, mentions),
        "chair_s": _ratio(bad, len(records)),
        "recall": _ratio(hit, there),
        "length": mean(float(len((record.answer_text or "").split())) for record in records),
        "object_hal.response_rate": _ratio(bad, named),
        "object_hal.mention_rate": _ratio(once_wrong, once),
        "accuracy": micro(records),
        "unparsed": unparsed_share(records),
    }


def yes_or_no(value: Any) -> bool:
    """Whether a gold answer is yes: the word, 1 or 0, true or false.

    >>> yes_or_no("Yes"), yes_or_no(0)
    (True, False)
    """
    plain = re.sub(r"\W", "", str(value)).lower()
    if plain not in ("yes", "no", "1", "0", "true", "false"):
        raise InputError(f"the answer {value!r} is neither yes nor no")
    return plain in ("yes", "1", "true")


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_HALLUSION = ("category", "subcategory", "set_id", "figure_id", "question_id", "question", "gt_answer", "image")
TASKS = [
    Task(
        "pope",
        "lmms-lab/POPE",
        ("question_id", "question", "answer", "category", "image"),
        pope,
        YESNO,
        pope_metrics,
        rows=9000,
    ),
    Task("hallusionbench", "lmms-lab/HallusionBench", _HALLUSION, hallusion, YESNO, hallusion_metrics, "image", 951),
    Task(
        "amber_discriminative",
        "junyangwang0410/AMBER",
        ("id", "image", "query", "truth", "type"),
        amber,
        YESNO,
        amber_metrics,
        rows=14216,
    ),
    Task(
        "chair",
        "COCO val2014, rows made of its instances and captions",
        ("image_id", "image", "objects", "references"),
        chair,
        {
            "accuracy": default("object_hallucination", mode="f1"),
            "chair_i": variant("object_hallucination", mode="chair_i"),
            "chair_s": variant("object_hallucination", mode="chair_s"),
        },
        chair_metrics,
    ),
]
