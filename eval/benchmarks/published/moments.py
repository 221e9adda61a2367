"""When something happens in a video: Charades-STA and ActivityNet Captions, by recall and F1 at an overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from eval.benchmarks.base import Benchmark, Item, Medium, Metrics, Row, default, variant
from eval.benchmarks.cells import listed
from eval.benchmarks.metrics import micro, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.spans import spans
from rewards.rules.grounding import gold_rows, span_iou

ROUNDING = 1e-9  # decimal seconds are not exact in binary: half of an interval is still half
TEMPORAL = {
    "accuracy": default("eval.benchmarks.published.moments:span_hit", threshold=0.5),
    "iou": variant("span_iou"),
    **{f"R1@{t}": variant("eval.benchmarks.published.moments:span_hit", threshold=t) for t in (0.3, 0.5, 0.7)},
    **{f"F1@{t}": variant("eval.benchmarks.published.moments:span_f1", threshold=t) for t in (0.3, 0.5, 0.7)},
}


def moment_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of Charades-STA or ActivityNet Captions: a caption and its [start, end] in seconds, or several of them."""
    given = listed(row["timestamp"])
    several = [listed(span) for span in given] if isinstance(given[0], list | tuple) else [given]
    times = [sorted(float(value) for value in span) for span in several]
    if any(len(span) != 2 for span in times):
        raise InputError(f"{row['video']}: timestamp {given!r:.80} is not [start, end] in seconds")
    yield Item(
        id="/".join([str(row["video"]), str(row["caption"]), *(f"{start:g}-{end:g}" for start, end in times)]),
        task="temporal",
        text=f"When does this happen: {row['caption']}\nAnswer with [start, end] in seconds.",
        answer={"spans": times},
        media=(Medium(str(row["video"]), "video"),),
        named=True,
    )


def temporal_metrics(records: Sequence[Record]) -> Metrics:
    """R1 and F1 (of all spans in the answer) at each overlap, and the mean IoU; failures count 0."""
    names = [name for name in TEMPORAL if name not in ("accuracy", "iou")]
    numbers: Metrics = {name: micro(records, name) for name in names}
    return {**numbers, "mIoU": micro(records, "iou"), "unparsed": unparsed_share(records)}


def span_hit(rollouts: Sequence[Rollout], *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> list[Verdict]:
    """1 if the first span overlaps the gold one by at least the threshold (gold: `spans`, seconds).

    >>> span_hit([Rollout("[0, 5]", {"spans": [[0, 10]]})])[0].score
    1.0
    """
    return [_hit(verdict, threshold) for verdict in span_iou(rollouts)]


@per_rollout
def span_f1(rollout: Rollout, *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> Verdict:
    """F1 of all spans against all gold ones, matched one to one for the most hits (gold: `spans`).

    >>> [one.score for one in span_f1([Rollout("[0, 5], [6, 9]", {"spans": [[0, 4]]})])]
    [0.6666666666666666]
    """
    rows = gold_rows(gold(rollout, "spans"), 2, spans)
    golds = [(start, end) for start, end in ([] if rows is None else np.sort(rows).tolist()) if start < end]
    if not golds:  # as `span_iou`: both count the same samples
        return abstain("gold spans are not [start, end] seconds of some length")
    text = answer_text(rollout.answered)
    predicted = spans(text) if text else []
    if not predicted:
        return unparsed("no time span")
    hits_NM = np.array([[overlap(a, b) >= threshold - ROUNDING for b in golds] for a in predicted])
    hits = int(hits_NM[linear_sum_assignment(hits_NM, maximize=True)].sum())
    return Verdict(2 * hits / sum(hits_NM.shape), f"{hits} of {len(golds)} spans, {len(predicted)} answered")


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The overlap of two spans divided by their hull; 0 if the hull is empty.

    >>> overlap((0, 4), (2, 6)), overlap((1, 1), (1, 1))
    (0.3333333333333333, 0.0)
    """
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) / hull if hull > 0 else 0.0


def _hit(verdict: Verdict, threshold: float) -> Verdict:
    if verdict.kind != "scored" or verdict.score is None:
        return verdict
    return replace(verdict, score=float(verdict.score >= threshold - ROUNDING))


_moments = partial(
    Benchmark,
    columns=("video", "caption", "timestamp"),
    items=moment_items,
    scorers=TEMPORAL,
    metrics=temporal_metrics,
    known_by="mIoU",
    version=3,
)
BENCHMARKS = [
    _moments(
        name="charades_sta",
        about="[start, end] in seconds of a described moment. R1 at overlaps of 0.3, 0.5, 0.7, and mean IoU.",
        hub="lmms-lab/charades_sta",
        rows=3720,
    ),
    _moments(
        name="activitynet_captions",
        about="As charades_sta, on ActivityNet; a caption may have several spans.",
        hub="lmms-lab/activitynet",
    ),
]
