"""The tables of a report and of a comparison: their columns and cells as text, for every printer of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.records import ALL
from mmrl.core.text import in_markdown


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Cells as text. The first `texts` columns are text, the others are numbers; the rows at `strong` stand out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 2
    strong: Sequence[int] = ()


def report_tables(content: Mapping[str, Any]) -> list[ReportTable]:
    """The tables of a report (`eval.report.reported`) that have rows, the scores first."""
    tables = score_table(content["rows"]), metric_table(content["metrics"] or {}), _draw_table(content["draws"])
    return [table for table in (*tables, _cost_table(content["tokens"])) if table.rows]


def score_table(rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    """The mean of every reward on every task, and the shares of answers without one; of a single task, once."""
    if len({row["task"] for row in rows}) == 2:  # the task, and all tasks together
        rows = [row for row in rows if row["task"] != ALL]
    columns = "task", "reward", "mean", "95 % interval", "n", "unparsed", "abstained", "failed"
    cells = [
        [*_names(row), shown_mean(row), interval(row), str(row["n"]), *(f"{row[kind]:.1%}" for kind in columns[5:])]
        for row in rows
    ]
    return ReportTable("Scores", columns, cells, strong=_of_all(rows))


def metric_table(metrics: Mapping[str, float | None]) -> ReportTable:
    """The numbers of a benchmark as its authors report them."""
    cells = [[name, shown_number(value)] for name, value in metrics.items()]
    return ReportTable("As the benchmark reports it", ("metric", "value"), cells, texts=1)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    """The differences between two runs (`eval.compare.compare`), with the numbers of items that crossed 0.5."""
    columns = "task", "reward", "A", "B", "B - A", "95 % interval", "n", "gained", "lost"
    cells = [
        [
            *_names(row),
            *(f"{row[run]:.3f}" for run in ("before", "after")),
            f"{row['difference']:+.3f}",
            interval(row),
            *(str(number) for number in (row["n"], len(row["gained"]), len(row["lost"]))),
        ]
        for row in rows
    ]
    return ReportTable("Differences", columns, cells, strong=_of_all(rows))


def preference_table(rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    """How often each reward agrees with the preferences of people (`eval.preferences.pairwise`), by dimension."""
    columns = "accuracy", "95 % interval", "n", "no verdict", "order decides", "ECE", "length corr."
    cells: list[list[str]] = []
    for row in rows:
        error = row["calibration"]["ece"] if row["calibration"] else None
        numbers = row["unjudged"], row["swapped"], error, row["length_correlation"]
        names = row["reward"], row["dimension"]
        cells.append([*names, shown_mean(row), interval(row), str(row["n"]), *map(shown_number, numbers)])
    return ReportTable("Preferences", ("reward", "task", *columns), cells)


def markdown_table(table: ReportTable) -> list[str]:
    """The lines of a table in markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *(map(in_markdown, row) for row in table.rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def shown_mean(row: Mapping[str, Any]) -> str:
    """The mean of a report row as text."""
    return "withheld" if row["withheld"] else shown_number(row["mean"])


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a row as text; a single cluster has none."""
    return "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"


def _draw_table(rows: Iterable[Mapping[str, Any]]) -> ReportTable:
    columns = "task", "reward", "k", "pass@k", "best of k", "majority of all"
    cells = [
        [*_names(row), str(at_k["k"]), *map(shown_number, (at_k["pass"], at_k["best"], row["majority"]))]
        for row in rows
        for at_k in row["k"]
    ]
    return ReportTable("Several answers to a question", columns, cells)


def _cost_table(costs: Mapping[str, Mapping[str, float]]) -> ReportTable:
    cells = [[name, f"{cost['mean']:.1f}", f"{cost['median']:.1f}"] for name, cost in costs.items()]
    return ReportTable("Cost of an answer", ("per answer", "mean", "median"), cells, texts=1)


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["task"], row["reward"]


def shown_number(value: float | None) -> str:
    """A number as text; none is a dash."""
    return "-" if value is None else f"{value:.3f}"


def _of_all(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of the rows about all tasks together."""
    return [place for place, row in enumerate(rows) if row["task"] == ALL]
