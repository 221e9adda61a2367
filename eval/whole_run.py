"""A run of several benchmarks: its parts, and one table over them with the number that each benchmark is known by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks import BENCHMARKS
from eval.benchmarks.combined import write_combined
from eval.compare import compare
from eval.records import ALL, RUN, TOTAL
from eval.report import incomplete, report
from eval.report_tables import ReportTable, comparison_table, interval, markdown_table, shown_number
from mmrl.core.files import write_atomic

SUMMARY = "summary.json"


def parts_in(out: Path) -> dict[str, Path]:
    """The directories of the benchmarks of a run, by name; of a run of one, its own."""
    if (out / RUN).is_file() or not out.is_dir():
        return {out.name: out}
    return {place.parent.name: place.parent for place in sorted(out.glob(f"*/{RUN}"))} or {out.name: out}


def is_whole(out: Path) -> bool:
    """Whether `out` holds several benchmarks, each in a directory of its own."""
    return list(parts_in(out).values()) != [out]


def write_summary(out: Path) -> list[dict[str, Any]]:
    """The line of each benchmark in `out`. Writes them as `summary.json` and `report.md`, and the reports of all."""
    contents = {name: report(place) for name, place in parts_in(out).items()}
    rows = [headline(content) for content in contents.values()]
    together = write_combined(out, contents)
    write_atomic(out / SUMMARY, json.dumps({"rows": rows, "together": together}, indent=2, ensure_ascii=False) + "\n")
    lines = [f"# {out.name}", "", *markdown_table(summary_table(rows)), ""]
    lines += [f"- [{name}]({name}/report.md)" for name in contents]
    lines += [f"- {name}: {shown_number(value)}" for name, value in together.items()]
    write_atomic(out / "report.md", "\n".join(lines) + "\n")
    return rows


def headline(content: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a report in the table over benchmarks: the number that the benchmark is known by.

    A number that is the mean of a scorer has that mean's interval; others have none.
    """
    name, metrics = content["run"]["benchmark"], content["metrics"]
    benchmark = BENCHMARKS.get(name)
    means = {row["reward"]: row for row in content["rows"] if row["task"] == ALL}
    decides = benchmark.headline if benchmark else TOTAL
    known = benchmark is not None and (metrics or {}).get(benchmark.known_by) is not None
    number = benchmark.known_by if benchmark and known else decides
    row, scorer = means.get(number), means.get(decides, {})
    return {
        "benchmark": name,
        "model": content["run"]["model"],
        "number": number,
        "value": row["mean"] if row else (metrics or {}).get(number),
        "low": row["low"] if row else None,
        "high": row["high"] if row else None,
        "n": scorer.get("n", content["records"]),
        "unparsed": scorer.get("unparsed"),
        "withheld": bool(scorer.get("withheld")) or (benchmark is not None and metrics is None),
        "incomplete": incomplete(content),
    }


def summary_table(rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    """The table over benchmarks."""
    cells = [
        [
            row["benchmark"],
            row["number"],
            "withheld" if row["withheld"] else shown_number(row["value"]),
            interval(row),
            str(row["n"]),
            "-" if row["unparsed"] is None else f"{row['unparsed']:.1%}",
        ]
        for row in rows
    ]
    return ReportTable("Benchmarks", ("benchmark", "number", "value", "95 % interval", "n", "unparsed"), cells)


def compared(before: Path, after: Path) -> list[tuple[str, dict[str, Any]]]:
    """The comparison of every benchmark that both runs hold, by name."""
    old, new = parts_in(before), parts_in(after)
    return [(name, compare(old[name], new[name])) for name in old if name in new]


def compared_table(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> ReportTable:
    """The differences of two runs over their benchmarks: the scorer that decides in each."""
    rows = []
    for name, content in contents:
        wanted = BENCHMARKS[name].headline if name in BENCHMARKS else TOTAL
        rows += [{**row, "task": name} for row in content["rows"] if (row["task"], row["reward"]) == (ALL, wanted)]
    table = comparison_table(rows)
    return ReportTable("Differences", ("benchmark", *table.columns[1:]), table.rows)
