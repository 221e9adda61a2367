"""Measures of a dataset, and what other thresholds would keep, both read from the files that its build wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Column, Table
from rich.text import Text

from data_engine.measure.measures import Condition, Name
from mmrl.core.text import printable

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

COLUMNS = pa.schema(
    [("split", pa.string()), ("reason", pa.string()), *((name, pa.float64()) for name in get_args(Name))]
)


def measures_of(directory: Path, split: str | None = None) -> tuple[pa.Table, pa.Table]:
    """(the measures of the samples of a dataset, those of samples that its operators dropped, with their `reason`).

    With a split, the dropped samples are those that were in this split or had no split yet.
    """
    kept, dropped = (_table(directory / name) for name in (STATS, DROPPED))
    if split is not None:
        kept = kept.filter(pa.array(_where(kept["split"], lambda value: value == split)))
        dropped = dropped.filter(pa.array(_where(dropped["split"], lambda value: value in (split, ""))))
    return kept, dropped


def measure_table(kept: pa.Table, dropped: pa.Table) -> Table:
    """For each measure how it is spread, among the samples and among those that its operator dropped."""
    table = Table("measure", "of", "n", "smallest", "5 %", "median", "95 %", "largest", "from smallest to largest")
    for name in get_args(Name):
        mine = dropped.filter(pa.array(_dropped_by(dropped, OPERATOR[name])))
        given = {which: _values(rows, name) for which, rows in (("kept", kept), ("dropped", mine))}
        given = {which: values[~np.isnan(values)] for which, values in given.items()}
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


def keep_table(kept: pa.Table, dropped: pa.Table, conditions: Sequence[Condition], split: str | None = None) -> Table:
    """For each condition, and for all together, how many samples it keeps and how many it takes back."""
    names = "samples now", "it keeps", "it drops", "it takes back", "not measured", "not measured, taken back"
    table = Table(Column("condition", no_wrap=True), *names)
    for condition in conditions:
        table.add_row(str(condition), *_counts(kept, dropped, [condition]))
    if len(conditions) > 1:
        table.add_row("all of them", *_counts(kept, dropped, conditions))
    unsplit = _where(dropped["split"], lambda value: not value).sum()
    notes = ["A sample without the measure is kept; a dropped sample was not measured by later filters."]
    if split and unsplit:
        notes += [f"Of those dropped, {unsplit:,} had no split yet and count here."]
    table.caption = Text(" ".join(notes))
    return table


def reuse_table(directory: Path, shards: Sequence[str]) -> Table:
    """How many images and videos occur in one sample, in two, in more; and which one occurs in the most samples."""
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
            for sha256 in {item["sha256"] for item in media or ()}:
                uses[sha256] = uses.get(sha256, 0) + 1
    return uses


def _counts(kept: pa.Table, dropped: pa.Table, conditions: Sequence[Condition]) -> list[str]:
    """A dropped sample comes back if an operator dropped it by one of the measures, and all conditions hold now."""
    passes, without = _holding(kept, conditions)
    back, unmeasured = _holding(dropped, conditions)
    back &= np.logical_or.reduce(
        [
            _dropped_by(dropped, OPERATOR[condition.name]) & ~np.isnan(_values(dropped, condition.name))
            for condition in conditions
        ]
    )
    numbers = (len(kept), passes.sum(), (~passes).sum(), back.sum(), without.sum(), (back & unmeasured).sum())
    return [f"{number:,}" for number in numbers]


def _holding(rows: pa.Table, conditions: Sequence[Condition]) -> tuple[np.ndarray, np.ndarray]:
    """(which rows all conditions keep, of which a measure of theirs is missing)."""
    values = np.array([_values(rows, condition.name) for condition in conditions])
    holds = np.array([condition.holds(measured) for condition, measured in zip(conditions, values, strict=True)])
    return np.logical_and.reduce(holds), np.logical_or.reduce(np.isnan(values))


def _values(rows: pa.Table, name: str) -> np.ndarray:
    """A measure of all rows; NaN where it was not measured."""
    return rows[name].to_numpy()


def _dropped_by(dropped: pa.Table, operator: str) -> np.ndarray:
    return _where(dropped["reason"], lambda text: text.partition(":")[0] == operator)


def _where(column: pa.ChunkedArray, holds: Callable[[str], bool]) -> np.ndarray:
    """Which rows hold a text that `holds` accepts; a missing text is empty. Each different text is checked once."""
    encoded = column.combine_chunks().fill_null("").dictionary_encode()
    holding = np.array([holds(text) for text in encoded.dictionary.to_pylist()], bool)
    return holding[encoded.indices.to_numpy()]


def _table(path: Path) -> pa.Table:
    """The measures in a file, those that it lacks as absent."""
    table = pa.table({})
    if path.is_file():
        with pq.ParquetFile(path) as file:
            table = file.read([name for name in COLUMNS.names if name in file.schema_arrow.names])
    given = [
        table[name] if name in table.column_names else pa.nulls(len(table), kind)
        for name, kind in zip(COLUMNS.names, COLUMNS.types, strict=True)
    ]
    return pa.table(given, COLUMNS)
