"""Temporal grounding by recall at an overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from rewards.base import Rollout, Verdict
from rewards.grounding import span_iou

ROUNDING = 1e-9  # decimal seconds are not exact in binary: half of an interval is still half


def span_hit(rollouts: Sequence[Rollout], *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> list[Verdict]:
    """1 if the first span overlaps the gold one by at least the threshold (gold: `spans`, seconds).

    >>> span_hit([Rollout("[0, 5]", {"spans": [[0, 10]]})])[0].score
    1.0
    """
    return [_hit(one, threshold) for one in span_iou(rollouts)]


def _hit(verdict: Verdict, threshold: float) -> Verdict:
    if verdict.kind != "scored" or verdict.score is None:
        return verdict
    return replace(verdict, score=float(verdict.score >= threshold - ROUNDING))
