"""How the cost of stages without pictures grows with the number of samples, from 10,000 to 1,000,000.

    python -m benchmarks.scale [--quick] [--json FILE]

Questions without media pass checks, duplicates, a split that keeps equal questions together, a quota and a shuffle, in
one process. The exponent is the slope of processor seconds, which other programs do not lengthen, over
samples on logarithmic axes: 1 is proportional, and the promise is at most 1.1. The smallest size runs once before the
measurement, so that imports do not count.
"""

from __future__ import annotations

import json
import math
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import parser_of
from data_engine.engine.pipeline import run
from data_engine.engine.progress import Bars
from data_engine.recipe import Recipe
from data_engine.schema import Sample, user_prompt
from data_engine.seeding import digest
from mmrl.core.config import validate

PROMISE = 1.1
OPERATORS = [
    {"fn": "validate"},
    {"fn": "text_length", "args": {"min_words": 3}},
    {"fn": "exact_duplicates"},
    {"fn": "split", "args": {"shares": {"train": 0.9, "test": 0.1}}},
    {"fn": "shuffle"},
]


def questions(*, n: int) -> Iterator[Sample]:
    """Questions on numbers; every tenth was asked before."""
    for number in range(n):
        asked = number - 7 if number % 10 == 9 else number
        words = " ".join(digest(asked, place)[:6] for place in range(6))
        text = f"What is {asked} plus {asked % 97}? Think of {words}."
        meta = {"where": f"questions:{number}", "licence": "cc0-1.0"}
        yield Sample("", "questions", "number", user_prompt(text), {"number": float(asked + asked % 97)}, (), meta)


def seconds_for(n: int, folder: Path, console: Console) -> float:
    """How many seconds a recipe of `n` samples takes the processor."""
    n_quota = {"fn": "quota", "args": {"n": n // 2, "by": "split", "shares": {"train": 3, "test": 1}}}
    sources = [{"fn": "benchmarks.scale:questions", "args": {"n": n}}]
    operators = [*OPERATORS[:4], n_quota, OPERATORS[4]]
    recipe = validate(Recipe, {"sources": sources, "operators": operators}, where="scale")
    since = time.process_time()
    with Bars(console) as bars:
        counts = run(recipe, out=folder / str(n), progress=bars)
    if counts.read.total() != n or counts.dropped["exact_duplicates: duplicate"] != n // 10:
        raise SystemExit(f"the recipe of {n} samples went wrong: {counts}")
    return time.process_time() - since


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of the line of least squares through log(seconds) over log(sizes).

    >>> round(exponent([10, 100, 1000], [1, 10, 100]), 6)
    1.0
    """
    xs, ys = [math.log(size) for size in sizes], [math.log(duration) for duration in seconds]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    options = parser_of(__doc__, "1,000 to 20,000 samples").parse_args(argv)
    sizes = [1_000, 5_000, 20_000] if options.quick else [10_000, 100_000, 1_000_000]
    console, table = Console(stderr=True), Table("samples", "processor seconds", "samples/s", "peak memory")
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        seconds_for(sizes[0], Path(folder), console)
        for size in sizes:
            seconds.append(seconds_for(size, Path(folder), console))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            table.add_row(f"{size:,}", f"{seconds[-1]:,.1f}", f"{size / seconds[-1]:,.0f}", f"{peak:,.0f} MB")
    slope = exponent(sizes, seconds)
    out = Console()
    out.print(table)
    out.print(f"exponent {slope:.3f} (promise: at most {PROMISE})")
    if options.json:
        row = {
            "case": "exponent of processor seconds over samples",
            "ours": slope,
            "peer": PROMISE,
            "ratio": PROMISE / slope,
        }
        options.json.write_text(
            json.dumps([{**row, "unit": "exponent", "n": sizes[-1], "seconds": seconds}], indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
