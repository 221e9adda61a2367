"""Scores of records, from the records alone: the verdicts of the training rewards, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.records import Record, RunInfo, read_records, read_run, replace_records
from rewards import MediaRef, Rollout, Suite
from rewards.extract import answer_text


def scored(records: Sequence[Record], suite: Suite, scorer: str) -> list[Record]:
    """`records` with the verdicts of `suite`, signed by `scorer`."""
    verdicts = suite.score([rollout_of(record) for record in records])
    weights = dict(zip(suite.names, suite.weights, strict=True))
    signed = []
    for record, by_name in zip(records, verdicts, strict=True):
        scores = {name: verdict.score for name, verdict in by_name.items()}
        signed.append(
            replace(
                record,
                answer_text=answer_text(record.response),
                scorer=scorer,
                scores=scores,
                kinds={name: verdict.kind for name, verdict in by_name.items()},
                why={name: verdict.why for name, verdict in by_name.items() if verdict.why},
                total=total(scores, weights),
            )
        )
    return signed


def total(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The sum of weight times score over the rewards that have one; None if none has.

    >>> total({"accuracy": 1.0, "format": 0.5, "judge": None}, {"accuracy": 1.0, "format": 0.2, "judge": 1.0})
    1.1
    """
    present = [weights[name] * score for name, score in scores.items() if score is not None]
    return sum(present) if present else None


def rollout_of(record: Record) -> Rollout:
    """What the rewards saw, from the record of it."""
    return Rollout(
        completion=record.response,
        answer=record.gold,
        task=record.task,
        prompt=record.prompt,
        media=[MediaRef(m["kind"], m["path"], m["width"], m["height"]) for m in record.media],
        seen_size=[(width, height) for width, height in record.seen_size],
        meta=record.meta,
        group=record.item_id,
    )
