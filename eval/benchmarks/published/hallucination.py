"""Yes/no questions that provoke hallucinations: POPE and HallusionBench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.cells import picture, yes_or_no
from eval.benchmarks.metrics import (
    all_right,
    answer_pairs,
    binary,
    groups,
    mean,
    micro,
    prefixed,
    together,
    unparsed_share,
)
from eval.benchmarks.scoring import NO_ANSWER, by_protocol, prompt
from eval.records import Record
from mmrl.core.messages import user_text
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, gold, unparsed
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import verdict_of
from rewards.parse.extract import answer_text, yes_no

YESNO = {"accuracy": default("yesno_match")}


def pope_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of POPE; ids restart in each of its three categories."""
    meta = {"category": row["category"], "image_source": row.get("image_source")}
    name = f"{row['category']}/{row['question_id']}"
    text = f"{row['question']}\nAnswer yes or no."
    yield Item(name, "yesno", text, {"yesno": yes_or_no(row["answer"])}, picture(row["image"]), meta)


def pope_metrics(records: Sequence[Record]) -> Metrics:
    """Accuracy, precision, recall, F1 (positive: yes) and yes ratio of all, of each category, and the mean of the
    categories; `official`: the same with the published parser, which reads every answer as yes or no."""
    numbers: Metrics = {}
    for name, parse in (("", yes_no), ("official.", pope_official)):
        pairs = partial(answer_pairs, parse=parse, all_read=bool(name))
        parts = {
            category: binary(pairs(group), positive=True) for category, group in groups(records, "category").items()
        }
        whole = binary(pairs(records), positive=True)
        numbers |= {f"{name}{key}": value for key, value in whole.items()}
        for category, part in parts.items():
            numbers |= prefixed(f"{name}{category}", part)
        numbers |= {f"{name}mean.{key}": mean(part[key] for part in parts.values()) for key in ("accuracy", "f1")}
    return numbers


def pope_official(text: str) -> bool:
    """POPE's published parser: no if No, no or not is a word of the first sentence (without commas), else yes.

    >>> pope_official("There is not, I think. Yes."), pope_official("mumble")
    (False, True)
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def hallusion_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of HallusionBench; with visual_input 0 no image is shown."""
    keys = ("category", "subcategory", "set_id", "figure_id", "question_id")
    meta = {key: str(row[key]) for key in keys}
    media = () if str(row.get("visual_input")) == "0" else picture(row["image"])
    text = f"{row['question']}\nAnswer yes or no."
    right = yes_or_no(row["gt_answer"])
    answer = {"yesno": right, "details": str(row.get("gt_answer_details") or ("Yes." if right else "No."))}
    group = "/".join(meta[key] for key in keys[:3])  # qAcc and fAcc need all questions and figures of a set
    yield Item("/".join(meta.values()), "yesno", text, answer, media, meta, group)


def hallusion_metrics(records: Sequence[Record]) -> Metrics:
    """aAcc over questions, qAcc over questions with every figure right, fAcc over figures with every question right.

    fAcc excludes figure 0 of VS, which has no image; `fAcc.all_figures` includes it. The same by a judge.
    """
    numbers = {**_hallusion(records, "accuracy"), "unparsed": unparsed_share(records)}
    if any("judge_published" in record.scores for record in records):
        numbers |= prefixed("judge_published", _hallusion(records, "judge_published"))
    return numbers


@by_protocol
async def hallusion_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge finds the answer correct. "unclear" is right without an image (HallusionBench: figure 0 of VS; gold:
    `details`, the right answer in words)."""
    predicted = answer_text(rollout.answered)
    if not predicted:
        return unparsed(NO_ANSWER)
    data = {"question": user_text(rollout.prompt), "reference": str(gold(rollout, "details")), "response": predicted}
    verdict = await verdict_of(
        judge,
        prompt("hallusion"),
        data=data,
        parse=lambda reply: replies.one_of(reply, "verdict", ("correct", "incorrect", "unclear")),
    )
    unseen = (rollout.meta.get("category"), rollout.meta.get("figure_id")) == ("VS", "0")
    right = verdict == "correct" or (verdict == "unclear" and unseen)
    return Verdict(float(right), f"{prompt('hallusion').name}: {verdict}")


def _hallusion(records: Sequence[Record], reward: str) -> Metrics:
    with_image = [r for r in records if not (r.meta["category"] == "VS" and r.meta["figure_id"] == "0")]
    within = ["category", "subcategory", "set_id"]

    def share(some: Sequence[Record], key: str) -> float | None:
        return mean(all_right(group, reward) for group in together(some, [*within, key]))

    return {
        "aAcc": micro(records, reward),
        "qAcc": share(records, "question_id"),
        "fAcc": share(with_image, "figure_id"),
        "fAcc.all_figures": share(records, "figure_id"),
    }


_HALLUSION = ("category", "subcategory", "set_id", "figure_id", "question_id", "question", "gt_answer", "image")


BENCHMARKS = [
    Benchmark(
        name="pope",
        version=2,
        about="Yes or no: is an object there? Accuracy, precision, recall, F1 and the share of yes, by category.",
        hub="lmms-lab/POPE",
        columns=("question_id", "question", "answer", "category", "image"),
        items=pope_items,
        scorers=YESNO,
        metrics=pope_metrics,
        known_by="f1",
        rows=9000,
    ),
    Benchmark(
        name="hallusionbench",
        about="Yes or no, on figures and on their altered versions. aAcc, qAcc and fAcc.",
        hub="lmms-lab/HallusionBench",
        columns=_HALLUSION,
        items=hallusion_items,
        scorers=YESNO,
        metrics=hallusion_metrics,
        known_by="aAcc",
        split="image",
        rows=951,
        version=3,
        judged={"judge_published": variant("eval.benchmarks.published.hallucination:hallusion_judged")},
    ),
]
