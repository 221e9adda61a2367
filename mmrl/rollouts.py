"""Rollouts of training: built from a row and its completion for the rewards, and written down for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.schema import dumps
from eval.encode import Encoded
from eval.records import media_entry
from mmrl.vision import CoordinateSpace
from rewards import Rollout


def rollout_of(
    row: Mapping[str, Any],
    completion: Any,
    encoded: Encoded,
    space: CoordinateSpace,
    step: int,
    total_steps: int,
) -> Rollout:
    """The rollout that the rewards see; `completion` is a text or TRL's list with one assistant message."""
    text = completion if isinstance(completion, str) else completion[0]["content"]
    return Rollout(
        completion=text,
        answer=row["answer"],
        task=row["task"],
        prompt=row["prompt"],
        media=row["media"],
        seen_size=encoded.seen_size,
        meta={**row["meta"], "space": space.value},
        group=row["id"],
        step=step,
        total_steps=total_steps,
    )


def write_rollouts(
    rows: Sequence[Mapping[str, Any]], out: Path, *, step: int, group: int, space: CoordinateSpace
) -> Path:
    """Write the rollouts of one generation step to `out/rollouts/step-00010.parquet`; returns the file.

    Each row has the sample's id, task, prompt, gold answer and media (files, not bytes), the size at which the
    model saw each, the space it speaks, the completion, its length in tokens, the advantage, whether it is the
    gold answer put among them, and for every reward a
    score, a kind and a why.
    """
    columns = [_columns(row, place % group) | {"space": space.value} for place, row in enumerate(rows)]
    directory = out / "rollouts"
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"step-{step:05d}.parquet"
    staging = place.with_suffix(".writing")
    pq.write_table(pa.Table.from_pylist(columns), staging)
    os.replace(staging, place)
    return place


def _columns(row: Mapping[str, Any], draw: int) -> dict[str, Any]:
    sample = row["row"]
    columns = {
        "id": sample["id"],
        "draw": draw,
        "task": sample["task"],
        "prompt": dumps(sample["prompt"]),
        "answer": dumps(sample["answer"]),
        "media": [media_entry(media) for media in sample["media"]],
        "seen_size": [list(size) for size in row["seen_size"]],
        "completion": row["completion"],
        "tokens": row["tokens"],
        "advantage": row["advantage"],
        "injected": row["injected"],
    }
    for name, verdict in row["verdicts"].items():
        columns[f"score/{name}"] = verdict.score
        columns[f"kind/{name}"] = verdict.kind
        columns[f"why/{name}"] = verdict.why
    return columns
