"""Two ways of doing the same in turn: rates, their medians and ranges."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def compared(
    case: str, ours: Callable[[], Any], peer: Callable[[], Any], n: int, rounds: int, *, unit: str
) -> dict[str, Any]:
    """A row of medians and ranges of `n` things a second, after one round that does not count."""
    rates: tuple[list[float], list[float]] = [], []
    for counts in range(rounds + 1):
        for side, work in zip(rates, (ours, peer), strict=True):
            start = time.perf_counter()
            work()
            if counts:
                side.append(n / (time.perf_counter() - start))
    middle, other = map(statistics.median, rates)
    ranges = [[min(side), max(side)] for side in rates]
    return {
        "case": case,
        "ours": middle,
        "peer": other,
        "ratio": middle / other,
        "unit": unit,
        "n": n,
        "ranges": ranges,
    }


def report(rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Print the rows as a table; write them to `path` as JSON."""
    table = Table("case", "mmrl (range)", "peer (range)", "times faster", "unit", "n")
    for row in rows:
        sides = zip((row["ours"], row["peer"]), row["ranges"], strict=True)
        cells = [f"{middle:,.0f} ({low:,.0f}-{high:,.0f})" for middle, (low, high) in sides]
        table.add_row(row["case"], *cells, f"{row['ratio']:.1f}", row["unit"], f"{row['n']:,}")
    Console().print(table)
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n")
