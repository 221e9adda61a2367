"""Hallucinations in descriptions: CHAIR, Object HalBench, and MMHal-Bench by a judge.

Object words are those of `rewards.parse.coco_objects`, not CHAIR's released synonym list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.cells import listed, listed_texts, picture
from eval.benchmarks.coco import coco_rows
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import groups, mean, mean_words, micro, prefixed, ratio, unparsed_share
from eval.benchmarks.scoring import NO_ANSWER, by_protocol, prompt, reply_of
from eval.records import Record
from mmrl.core.messages import user_text
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, gold, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import verdict_of
from rewards.parse.coco_objects import objects_named, objects_said
from rewards.parse.extract import answer_text

MMHAL_TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
MOST_OBJECTS = 200
_RATING = re.compile(r"rating: (\d)(?!\d)")
OBJECTS = {
    "accuracy": default("object_hallucination", mode="f1"),
    "chair_i": variant("object_hallucination", mode="chair_i"),
    "chair_s": variant("object_hallucination", mode="chair_s"),
}


def described(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image with its objects (`objects`, COCO names) and reference captions (`references`)."""
    answer = {"references": listed_texts(row["references"]), "objects": listed(row["objects"])}
    text = "Please describe this image in detail."
    meta = {"dataset": "coco", "image_id": row["image_id"]}
    yield Item(str(row["image_id"]), "caption", text, answer, picture(row["image"]), meta)


def chair_metrics(records: Sequence[Record]) -> Metrics:
    """CHAIR_i, CHAIR_s (lower is better), recall and mean length in words, over all mentions and captions.

    The true objects are the annotated ones and those in the references. Repeated mentions count each time.
    """
    mentions = wrong = hit = there = bad = 0
    for record in records:
        truth, predicted = _truth(record), objects_named(record.answer_text or "")
        false = [name for name in predicted if name not in truth]
        mentions, wrong, bad = mentions + len(predicted), wrong + len(false), bad + bool(false)
        hit, there = hit + len(truth & set(predicted)), there + len(truth)
    return {
        "chair_i": ratio(wrong, mentions),
        "chair_s": ratio(bad, len(records)),
        "recall": ratio(hit, there),
        "length": mean_words(records),
        "accuracy": micro(records),
        "unparsed": unparsed_share(records),
    }


def halbench_metrics(records: Sequence[Record]) -> Metrics:
    """Response and mention rate of hallucination (lower is better), object recall and mean length.

    By rule, and with the objects that a judge finds in the response. A word with its class counts once in a response.
    """
    numbers = _rates(records, lambda record: {*objects_said(record.answer_text or "")})
    judged = [record for record in records if record.scores.get("judge_published") is not None]
    readable = [record for record in judged if record.why["judge_published"].startswith("[")]
    if any("judge_published" in record.scores for record in records):
        numbers |= prefixed("judge_published", _rates(readable, _by_judge))
    return {**numbers, "length": mean_words(records), "accuracy": micro(records), "unparsed": unparsed_share(records)}


@by_protocol
async def objects_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The share of true objects among the COCO objects that a judge finds in the response (Object HalBench; gold:
    `objects`, `references`). `why` lists them as JSON, each [word, class] once."""
    predicted = answer_text(rollout.answered)
    if not predicted:
        return unparsed("[]")
    phrases = await verdict_of(
        judge,
        prompt("objects_named"),
        data={"description": predicted},
        parse=lambda reply: replies.texts(reply, "objects", MOST_OBJECTS),
    )
    pairs = sorted({pair for phrase in phrases for pair in objects_said(phrase)})
    texts = [*rollout.answer["objects"], *rollout.answer["references"]]
    there = {name for text in texts for _, name in objects_said(text)}
    right = sum(name in there for _, name in pairs)
    return Verdict(right / len(pairs) if pairs else 1.0, json.dumps(pairs))


def numbered(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows with their place in the file, which decides the type of a question in MMHal-Bench."""
    for index, row in enumerate(rows_of(files, columns)):
        yield {**row, "index": index}


def mmhal_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A question with the answer of a person and the objects in the image; the eight types alternate in the file."""
    answer = {"text": [str(row["gt_answer"])], "contents": listed_texts(row["image_content"])}
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


@by_protocol
async def mmhal_rating(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The rating of a judge, from 0 to 6, divided by 6 (gold: `text`, the answer of a person, and `contents`)."""
    predicted = answer_text(rollout.answered)
    if not predicted:
        return unparsed(NO_ANSWER)
    data = {
        "contents": ", ".join(map(str, rollout.answer["contents"])),
        "question": user_text(rollout.prompt),
        "reference": str(gold(rollout, "text")[0]),
        "response": predicted,
    }
    rating = await reply_of(judge, prompt("mmhal"), one_rating, data=data)
    return Verdict(rating / 6, f"{prompt('mmhal').name}: rating {rating} of 6")


def one_rating(reply: str) -> int:
    """The rating of a reply, which must be the only one in it.

    >>> one_rating("It is fine. Rating: 5. So: rating: 5")
    5
    """
    ratings = set(_RATING.findall(reply.lower()))
    if len(ratings) != 1 or int(next(iter(ratings))) > 6:
        raise Unreadable(f"{len(ratings)} ratings from 0 to 6: {sorted(ratings)}")
    return int(ratings.pop())


def _rates(records: Sequence[Record], named: Callable[[Record], set[tuple[str, str]]]) -> Metrics:
    some = bad = count = wrong = hit = there = 0
    for record in records:
        truth, predicted = _truth(record), named(record)
        false = [name for _, name in predicted if name not in truth]
        some, bad = some + bool(predicted), bad + bool(false)
        count, wrong = count + len(predicted), wrong + len(false)
        hit, there = hit + len(truth & {name for _, name in predicted}), there + len(truth)
    rates = {"response_rate": ratio(bad, some), "mention_rate": ratio(wrong, count)}
    return {**rates, "object_recall": ratio(hit, there)}


def _by_judge(record: Record) -> set[tuple[str, str]]:
    return {(word, name) for word, name in json.loads(record.why["judge_published"])}


def _truth(record: Record) -> set[str]:
    return {name for text in [*record.gold["objects"], *record.gold["references"]] for name in objects_named(text)}


def _rating(records: Sequence[Record]) -> float | None:
    score = micro(records, "judge_rating")
    return None if score is None else 6 * score


_DESCRIBED = ("image_id", "image", "objects", "references")


BENCHMARKS = [
    Benchmark(
        name="chair",
        about="A description. CHAIR_i and CHAIR_s: named objects that are not there.",
        hub="COCO val2014: instances and captions, and perhaps a list of image ids",
        columns=_DESCRIBED,
        items=described,
        scorers=OBJECTS,
        metrics=chair_metrics,
        known_by="chair_i",
        split="",
        read=coco_rows,
    ),
    Benchmark(
        name="object_halbench",
        about="A description. Response and mention rates of hallucinated objects.",
        hub="Object HalBench's 300 images with COCO's instances and captions",
        columns=_DESCRIBED,
        items=described,
        scorers={"accuracy": OBJECTS["accuracy"]},
        metrics=halbench_metrics,
        known_by="response_rate",
        split="",
        rows=300,
        read=coco_rows,
        judged={"judge_published": variant("eval.benchmarks.published.descriptions:objects_judged")},
    ),
    Benchmark(
        name="mmhal_bench",
        about="Free text. A judge's rating from 0 to 6, and the share of hallucinating answers.",
        hub="Shengcao1006/MMHal-Bench",
        columns=("question", "gt_answer", "image_content", "image_src"),
        items=mmhal_items,
        scorers={},
        metrics=mmhal_metrics,
        known_by="judge_rating",
        rows=96,
        read=numbered,
        needs="a judge (published: GPT-4)",
        judged={"judge_rating": default("eval.benchmarks.published.descriptions:mmhal_rating")},
    ),
]
