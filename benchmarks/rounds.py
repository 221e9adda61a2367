"""Two ways of doing the same in turn: rates, their medians and ranges."""

from __future__ import annotations

import argparse
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
    row = {"case": case, "ours": middle, "peer": other, "ratio": middle / other}
    return {**row, "unit": unit, "n": n, "ranges": ranges}


def parser_of(about: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser of the options that all benchmarks have; `quick` says what --quick shortens."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    return parser


def report(
    rows: Sequence[dict[str, Any]],
    path: Path | None,
    *,
    peer: str = "peer",
    ratio: str = "times faster",
    number: str = ",.0f",
) -> None:
    """Print the rows as a table; write them to `path` as JSON."""
    table = Table("case", "mmrl (range)", f"{peer} (range)", ratio, "unit", "n")
    for row in rows:
        sides = zip((row["ours"], row["peer"]), row["ranges"], strict=True)
        cells = [f"{middle:{number}} ({low:{number}}-{high:{number}})" for middle, (low, high) in sides]
        table.add_row(row["case"], *cells, f"{row['ratio']:.3g}", row["unit"], f"{row['n']:,}")
    Console().print(table)
    save(rows, path)


def save(rows: Any, path: Path | None) -> None:
    """Write the rows to `path` as JSON, if one is given."""
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n")
