"""What the measures of a dataset are, and what other thresholds would keep: from what was noted when it was built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from data_engine.look import printable
from data_engine.measures import Condition, Name

STATS = "stats.parquet"
DROPPED = "dropped.parquet"
BARS = " ▁▂▃▄▅▆▇█"
BINS = 24
OPERATOR: dict[str, str] = {  # a measure -> the operator that has a threshold on it
    "side": "min_side",
    "aspect": "max_aspect",
    "words": "text_length",
    "options": "option_count",
    "entropy": "min_entropy",
    "sharpness": "min_sharpness",
    "vision_tokens": "max_vision_tokens",
    "agreement": "caption_agreement",
    "rate": "difficulty",
}

Rows = list[dict[str, Any]]


def measures_of(directory: Path, split: str | None = None) -> tuple[Rows, Rows]:
    """(the measures of the samples of a dataset, those of samples that its operators dropped, with their `reason`)."""
    kept, dropped = (_rows(directory / name) for name in (STATS, DROPPED))
    return [row for row in kept if split in (None, row["split"])], dropped


def measure_table(kept: Rows, dropped: Rows) -> Table:
    """For each measure how it is spread, among the samples and among those that its operator dropped."""
    table = Table("measure", "of", "n", "smallest", "5 %", "median", "95 %", "largest", "from smallest to largest")
    for name in get_args(Name):
        mine = [row for row in dropped if _stage(row) == OPERATOR[name]]
        given = {"kept": _values(kept, name), "dropped": _values(mine, name)}
        both = np.concatenate(list(given.values()))
        for which, values in given.items():
            if len(values):
                numbers = (f"{value:,.4g}" for value in np.quantile(values, [0, 0.05, 0.5, 0.95, 1]))
                bars = histogram(values, float(both.min()), float(both.max()))
                table.add_row(name, which, f"{len(values):,}", *numbers, bars)
    return table


def histogram(values: np.ndarray, low: float, high: float) -> str:
    """How often values occur between `low` and `high`, as a line of bars.

    >>> histogram(np.array([0.0, 0.0, 1.0]), 0.0, 1.0)
    '█                      ▄'
    """
    counts, _ = np.histogram(values, BINS, (low, high if high > low else low + 1))
    heights = np.ceil(counts / max(counts.max(), 1) * (len(BARS) - 1) - 1e-9).astype(int)
    return "".join(BARS[height] for height in heights)


def keep_table(kept: Rows, dropped: Rows, conditions: Sequence[Condition]) -> Table:
    """For each condition, and for all together, how many samples it keeps and how many it takes back."""
    table = Table("condition", "samples now", "it keeps", "it drops", "it takes back", "not measured")
    for condition in conditions:
        table.add_row(str(condition), *_counts(kept, dropped, [condition]))
    if len(conditions) > 1:
        table.add_row("all of them", *_counts(kept, dropped, conditions))
    return table


def reuse_table(directory: Path, shards: Sequence[str]) -> Table:
    """How many images and videos are in one sample, in two, in more; and which are in most."""
    uses = uses_of(directory, shards)
    counts = np.array(list(uses.values()), int)
    table = Table("samples about one image or video", "images and videos", "share")
    for low, high in ((1, 1), (2, 2), (3, 5), (6, 10), (11, 100), (101, None)):
        within = int(((counts >= low) & (counts <= (high or counts.max(initial=0)))).sum())
        if within:
            name = f"{low}" if low == high else f"{low} to {high}" if high else f"{low} and more"
            table.add_row(name, f"{within:,}", f"{within / len(counts):.1%}")
    most = sorted(uses, key=lambda sha256: (-uses[sha256], sha256))[:1]
    for sha256 in most:
        table.add_section()
        table.add_row(Text(printable(f"most: {sha256[:16]}")), f"in {uses[sha256]:,} samples", "")
    return table


def uses_of(directory: Path, shards: Sequence[str]) -> dict[str, int]:
    """SHA-256 of an image or video -> the number of samples that show it."""
    uses: dict[str, int] = {}
    for shard in shards:
        file = pq.ParquetFile(directory / shard)
        names = [
            path for path in (file.schema.column(i).path for i in range(len(file.schema))) if path.endswith("sha256")
        ]
        for media in file.read(columns=names)["media"].to_pylist():  # the hashes alone: shards may hold whole videos
            for sha256 in {one["sha256"] for one in media or ()}:
                uses[sha256] = uses.get(sha256, 0) + 1
    return uses


def _counts(kept: Rows, dropped: Rows, conditions: Sequence[Condition]) -> list[str]:
    """A dropped sample comes back if an operator on one of the measures dropped it, and all conditions hold now."""
    judging = {OPERATOR[one.name] for one in conditions}
    holds = [all(one.holds(_measured(row)) for one in conditions) for row in kept]
    measured = [
        row for row in dropped if _stage(row) in judging and all(row.get(one.name) is not None for one in conditions)
    ]
    back = sum(all(one.holds(_measured(row)) for one in conditions) for row in measured)
    without = sum(any(row.get(one.name) is None for one in conditions) for row in kept)
    numbers = (len(kept), sum(holds), len(kept) - sum(holds), back, without)
    return [f"{number:,}" for number in numbers]


def _measured(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in get_args(Name) if row.get(name) is not None}


def _values(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row.get(name) is not None], float)


def _stage(row: Mapping[str, Any]) -> str:
    return row["reason"].partition(":")[0]


def _rows(path: Path) -> Rows:
    if not path.is_file():
        return []
    table = pq.read_table(path)
    wanted = [name for name in ("split", "reason", *get_args(Name)) if name in table.column_names]
    return pa.Table.to_pylist(table.select(wanted))
