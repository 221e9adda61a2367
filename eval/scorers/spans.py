"""Temporal grounding by recall and by F1 at an overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.regions import spans
from rewards.rules.grounding import gold_rows, span_iou

ROUNDING = 1e-9  # decimal seconds are not exact in binary: half of an interval is still half


def span_hit(rollouts: Sequence[Rollout], *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> list[Verdict]:
    """1 if the first span overlaps the gold one by at least the threshold (gold: `spans`, seconds).

    >>> span_hit([Rollout("[0, 5]", {"spans": [[0, 10]]})])[0].score
    1.0
    """
    return [_hit(one, threshold) for one in span_iou(rollouts)]


@per_rollout
def span_f1(rollout: Rollout, *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> Verdict:
    """F1 of all spans against all gold ones, matched one to one so that most overlap by the threshold (gold: `spans`).

    >>> [one.score for one in span_f1([Rollout("[0, 5], [6, 9]", {"spans": [[0, 4]]})])]
    [0.6666666666666666]
    """
    golds = gold_rows(gold(rollout, "spans"), 2, spans)
    if golds is None or not len(golds):
        return abstain("gold spans are not [start, end] seconds")
    text = answer_text(rollout.completion)
    found = spans(text) if text else []
    if not found:
        return unparsed("no time span")
    hits_NM = np.array([[overlap(a, b) >= threshold - ROUNDING for b in np.sort(golds).tolist()] for a in found])
    hits = int(hits_NM[linear_sum_assignment(hits_NM, maximize=True)].sum())
    return Verdict(2 * hits / sum(hits_NM.shape), f"{hits} of {len(golds)} spans, {len(found)} said")


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The overlap of two spans over their hull; 0 where the hull is empty.

    >>> overlap((0, 4), (2, 6)), overlap((1, 1), (1, 1))
    (0.3333333333333333, 0.0)
    """
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) / hull if hull > 0 else 0.0


def _hit(verdict: Verdict, threshold: float) -> Verdict:
    if verdict.kind != "scored" or verdict.score is None:
        return verdict
    return replace(verdict, score=float(verdict.score >= threshold - ROUNDING))
