"""What free descriptions make up: CHAIR, Object HalBench, AMBER's generative part, and MMHal-Bench by a judge.

Object words are those of `rewards.parse.coco_objects`, not CHAIR's released synonym list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eval.benchmarks.amber import amber_descriptions
from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, listed, picture, variant
from eval.benchmarks.coco import coco_rows
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import groups, mean, micro, prefixed, unparsed_share
from eval.records import Record
from mmrl.core.vision import CoordinateSpace
from rewards.parse.coco_objects import objects_named, objects_said

MMHAL_TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")


def described(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A picture with its objects (`objects`, COCO names) and reference captions (`references`)."""
    answer = {"references": [str(one) for one in listed(row["references"])], "objects": listed(row["objects"])}
    text = "Please describe this image in detail."
    meta = {"dataset": "coco", "image_id": row["image_id"]}
    yield Item(str(row["image_id"]), "caption", text, answer, picture(row["image"]), meta)


def chair_metrics(records: Sequence[Record]) -> Metrics:
    """CHAIR_i, CHAIR_s (lower is better), recall and mean length in words, over all mentions and captions.

    Objects are those annotated and those that the references mention; mentions repeat.
    """
    mentions = wrong = hit = there = bad = 0
    for record in records:
        truth, said = _truth(record), objects_named(record.answer_text or "")
        false = [one for one in said if one not in truth]
        mentions, wrong, bad = mentions + len(said), wrong + len(false), bad + bool(false)
        hit, there = hit + len(truth & set(said)), there + len(truth)
    return {
        "chair_i": _ratio(wrong, mentions),
        "chair_s": _ratio(bad, len(records)),
        "recall": _ratio(hit, there),
        **_length(records),
        "accuracy": micro(records),
        "unparsed": unparsed_share(records),
    }


def halbench_metrics(records: Sequence[Record]) -> Metrics:
    """Response and mention rate of hallucination (lower is better), object recall and mean length.

    By rule, and with the objects that a judge finds named. A word with its class counts once in a response.
    """
    found = _rates(records, lambda record: {*objects_said(record.answer_text or "")})
    judged = [record for record in records if record.scores.get("judge_published") is not None]
    readable = [record for record in judged if record.why["judge_published"].startswith("[")]
    if any("judge_published" in record.scores for record in records):
        found |= prefixed("judge_published", _rates(readable, _by_judge))
    return {**found, **_length(records), "accuracy": micro(records), "unparsed": unparsed_share(records)}


def amber(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A picture to describe, with the words for what is there and for what models make up."""
    answer = {
        "truth": [str(one) for one in listed(row["truth"])],
        "hallu": [str(one) for one in listed(row["hallu"])],
        "words_sha256": row["words_sha256"],
    }
    yield Item(
        str(row["id"]), "caption", str(row["query"]), answer, picture(row["image"]), {"words": str(row["words"])}
    )


def amber_metrics(records: Sequence[Record]) -> Metrics:
    """CHAIR, Hal, Cog (lower is better) and Cover, over all words, things and replies."""
    counts = [json.loads(record.why["accuracy"]) for record in records if record.scores.get("accuracy") is not None]
    total = {
        key: sum(one[key] for one in counts) for key in ("named", "wrong", "covered", "truth", "imagined", "hallu")
    }
    return {
        "chair": _ratio(total["wrong"], total["named"]),
        "cover": _ratio(total["covered"], total["truth"]),
        "hal": mean(float(one["wrong"] > 0) for one in counts),
        "cog": _ratio(total["imagined"], total["hallu"]),
        "accuracy": micro(records),
        "unparsed": unparsed_share(records),
    }


def numbered(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows with their place in the file, which is what MMHal's types of question hang on."""
    for index, row in enumerate(rows_of(files, columns)):
        yield {**row, "index": index}


def mmhal(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A question with a person's answer and what is in the picture; the eight types take turns in the file."""
    answer = {"text": [str(row["gt_answer"])], "contents": [str(one) for one in listed(row["image_content"])]}
    image = row.get("image") or Path(str(row["image_src"])).name
    meta = {"type": MMHAL_TYPES[row["index"] % len(MMHAL_TYPES)]}
    yield Item(str(row["index"]), "open", str(row["question"]), answer, picture(image), meta)


def mmhal_metrics(records: Sequence[Record]) -> Metrics:
    """The mean rating from 0 to 6, also by type, and the share of ratings below 3."""
    parts = {name: _rating(group) for name, group in groups(records, "type").items()}
    bad = [None if (score := r.scores.get("judge_rating")) is None else float(score * 6 < 2.5) for r in records]
    return {
        "judge_rating": _rating(records),
        "judge_hallucination_rate": mean(bad),
        **prefixed("judge_rating", parts),
        "unparsed": unparsed_share(records, "judge_rating"),
    }


def _rates(records: Sequence[Record], named: Callable[[Record], set[tuple[str, str]]]) -> Metrics:
    some = bad = count = wrong = hit = there = 0
    for record in records:
        truth, said = _truth(record), named(record)
        false = [name for _, name in said if name not in truth]
        some, bad = some + bool(said), bad + bool(false)
        count, wrong = count + len(said), wrong + len(false)
        hit, there = hit + len(truth & {name for _, name in said}), there + len(truth)
    rates = {"response_rate": _ratio(bad, some), "mention_rate": _ratio(wrong, count)}
    return {**rates, "object_recall": _ratio(hit, there)}


def _by_judge(record: Record) -> set[tuple[str, str]]:
    return {(word, name) for word, name in json.loads(record.why["judge_published"])}


def _truth(record: Record) -> set[str]:
    return {one for text in [*record.gold["objects"], *record.gold["references"]] for one in objects_named(text)}


def _rating(records: Sequence[Record]) -> float | None:
    score = micro(records, "judge_rating")
    return None if score is None else 6 * score


def _length(records: Sequence[Record]) -> Metrics:
    return {"length": mean(float(len((record.answer_text or "").split())) for record in records)}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


NAMED = {
    "accuracy": default("object_hallucination", mode="f1"),
    "chair_i": variant("object_hallucination", mode="chair_i"),
    "chair_s": variant("object_hallucination", mode="chair_s"),
}
_DESCRIBED = ("image_id", "image", "objects", "references")
BENCHMARKS = [
    Benchmark(
        "chair", "COCO val2014: instances and captions, and perhaps a list of image ids", _DESCRIBED, described, NAMED,
        chair_metrics, "", read=coco_rows,
    ),
    Benchmark(
        "object_halbench", "Object HalBench's 300 images with COCO's instances and captions", _DESCRIBED, described,
        {"accuracy": NAMED["accuracy"]}, halbench_metrics, "", 300, read=coco_rows,
        judged={"judge_published": variant("eval.scorers.published:objects")},
    ),
    Benchmark(
        "amber_generative", "junyangwang0410/AMBER, data/", ("id", "image", "query", "truth", "hallu"), amber,
        {"accuracy": default("eval.scorers.amber:amber")}, amber_metrics, "", 1004, read=amber_descriptions,
        needs="spaCy's en_core_web_lg for the published word similarity: here an embedding model, or none",
    ),
    Benchmark(
        "mmhal_bench", "Shengcao1006/MMHal-Bench", ("question", "gt_answer", "image_content", "image_src"), mmhal, {},
        mmhal_metrics, rows=96, read=numbered, needs="a judge (published: GPT-4)",
        judged={"judge_rating": default("eval.scorers.published:mmhal")},
    ),
]  # fmt: skip
