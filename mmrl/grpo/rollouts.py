"""Rollouts of training: built from a row and its completion for the rewards, and written down for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.records import media_entry
from mmrl.core.canonical_json import dumps
from mmrl.core.files import appearing
from mmrl.core.vision import CoordinateSpace
from mmrl.model.encoding import Encoded
from rewards import Rollout, Verdict


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


def columns_of(
    row: Mapping[str, Any],
    encoded: Encoded,
    said: tuple[str, int],
    verdicts: Mapping[str, Verdict],
    advantage: float,
    injected: bool,
    *,
    space: CoordinateSpace,
) -> dict[str, Any]:
    """A rollout as it is written down: the sample's id, task, prompt, gold answer and media (files, not bytes, so that
    none travels between processes), the size at which the model saw each, the completion and its length in tokens
    (`said`), the advantage, whether it is the gold answer put among the rollouts, the space that the model speaks, and
    for every reward a score, a kind and a why."""
    columns = {
        "id": row["id"],
        "task": row["task"],
        "prompt": dumps(row["prompt"]),
        "answer": dumps(row["answer"]),
        "media": [media_entry(media) for media in row["media"]],
        "seen_size": [list(size) for size in encoded.seen_size],
        "completion": said[0],
        "tokens": said[1],
        "advantage": advantage,
        "injected": injected,
    }
    for name, verdict in verdicts.items():
        columns[f"score/{name}"] = verdict.score
        columns[f"kind/{name}"] = verdict.kind
        columns[f"why/{name}"] = verdict.why
    return columns | {"space": space.value}


def write_rollouts(rows: Sequence[Mapping[str, Any]], out: Path, *, step: int, group: int) -> Path:
    """Write the `columns_of` all rollouts of one generation step, numbered within their group (`draw`), to
    `out/rollouts/step-00010.parquet`; returns the file."""
    columns = [{"id": row["id"], "draw": place % group, **row} for place, row in enumerate(rows)]
    place = out / "rollouts" / f"step-{step:05d}.parquet"
    with appearing(place) as staging:
        pq.write_table(pa.Table.from_pylist(columns), staging)
    return place
