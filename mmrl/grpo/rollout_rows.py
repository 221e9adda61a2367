"""The rollout files of a run, read. `mmrl.grpo.rollouts` writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError


def files_by_step(out: Path) -> dict[int, Path]:
    """The files of the run in `out` by their step, in order; InputError if there are none."""
    names = [(re.fullmatch(r"step-(\d+)\.parquet", file.name), file) for file in (out / "rollouts").iterdir()]
    files = {int(name[1]): file for name, file in names if name}
    if not files:
        raise InputError(f"{out} holds no rollouts yet")
    return dict(sorted(files.items()))


def rollout_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file (`mmrl.grpo.rollouts.columns_of`)."""
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except (OSError, ValueError) as error:  # Arrow's errors are among them
        raise InputError(f"{file} is damaged: {error}") from None
    missing = {"id", "draw", "task", "media", "seen_size", "space", "completion"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{file} is not of this version of mmrl: it lacks {', '.join(sorted(missing))}")
    return rows
