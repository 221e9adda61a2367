"""Rollouts of training: built from a row and its completion for the rewards, and written to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate.utils import gather_object
from torch import Tensor

from mmrl.core.canonical_json import dumps
from mmrl.core.files import appearing
from mmrl.core.media.kept import kept
from mmrl.core.vision import CoordinateSpace
from mmrl.grpo.batch import Branch, RolloutBatch
from mmrl.model.encoding import Encoded
from mmrl.tools.records import recorded, told
from mmrl.tools.turns import Turn
from rewards import Rollout, Verdict


def rollout_of(
    row: Mapping[str, Any],
    completion: Any,
    encoded: Encoded,
    space: CoordinateSpace,
    step: int,
    total_steps: int,
    turns: Sequence[Turn] = (),
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
        opened=encoded.opened,
        turns=told(turns),
    )


class RolloutFiles:
    """Writes the rollouts of each generation step, of all processes, to `OUT/rollouts`."""

    def __init__(self, trainer: Any, space: CoordinateSpace) -> None:
        self.trainer = trainer
        self.space = space

    def __call__(self, batch: RolloutBatch, advantages_B: Tensor) -> None:
        """Write one step; an evaluation is not written."""
        if not self.trainer.model.training:
            return
        out, step = Path(str(self.trainer.args.output_dir)), self.trainer.state.global_step + 1  # as in the log
        rollouts = zip(
            [{**sample, "media": [kept(media, out) for media in sample["media"]]} for sample in batch.samples],
            batch.rows,
            batch.completions,
            batch.verdicts,
            advantages_B.tolist(),
            batch.injected_B.tolist(),
            batch.drawn_at,
            batch.branches,
            strict=True,
        )
        turns = [recorded(of_rollout, out) for of_rollout in batch.turns]
        pairs = zip(rollouts, turns, strict=True)
        rows = gather_object([columns_of(*rollout, space=self.space, turns=said) for rollout, said in pairs])
        if self.trainer.accelerator.is_main_process:
            write_rollouts(rows, out, step=step, group=self.trainer.num_generations)


def columns_of(
    row: Mapping[str, Any],
    encoded: Encoded,
    completion: tuple[str, int],
    verdicts: Mapping[str, Verdict],
    advantage: float,
    injected: bool,
    drawn_at: int,
    branch: Branch | None = None,
    *,
    space: CoordinateSpace,
    turns: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A rollout as one row of a rollout file.

    The sample's id, task, prompt and gold answer; its media as references to files, so that no bytes travel between
    processes; the size at which the model saw each of them; `completion` as text and number of tokens; the advantage;
    whether the completion is the injected gold answer; the optimizer step whose weights drew it; a score, a kind and a
    reason for every reward; the coordinate space of the model. With tools, the `turns` as JSON; with trees, from which
    draw of the group it has branched off behind how many tokens.
    """
    columns = {
        "id": row["id"],
        "task": row["task"],
        "prompt": dumps(row["prompt"]),
        "answer": dumps(row["answer"]),
        "media": [media.row() for media in row["media"]],
        "seen_size": [list(size) for size in encoded.seen_size],
        "opened": encoded.opened,
        "completion": completion[0],
        "tokens": completion[1],
        "advantage": advantage,
        "injected": injected,
        "drawn_at": drawn_at,
    }
    if turns:
        columns["turns"] = dumps(list(turns))
    if branch is not None:
        columns |= {"branch_of": branch.draw, "branch_after": branch.tokens}
    return columns | verdict_columns(verdicts) | {"space": space.value}


def verdict_columns(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The score, the kind and the reason of every reward as columns of a rollout file."""
    parts = ("score", "kind", "why")
    return {f"{part}/{name}": getattr(verdict, part) for name, verdict in verdicts.items() for part in parts}


def write_rollouts(rows: Sequence[Mapping[str, Any]], out: Path, *, step: int, group: int) -> Path:
    """Write the `columns_of` all rollouts of a generation, numbered within their group (`draw`), to
    `out/rollouts/step-00010.parquet`; returns the file. `step` is the first optimizer step that learns from them, from
    1 on."""
    columns = [{"id": row["id"], "draw": place % group, **row} for place, row in enumerate(rows)]
    place = out / "rollouts" / f"step-{step:05d}.parquet"
    with appearing(place) as staging:
        pq.write_table(pa.Table.from_pylist(columns), staging)
    return place
