"""A dataset made readable on a terminal: its samples, and its numbers."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from data_engine.engine.cost import Cost, Length
from data_engine.measure.difficulty_table import Difficulty
from data_engine.recipe import Plan
from data_engine.schema import Sample
from mmrl.core.canonical_json import dumps
from mmrl.core.media.item import Media
from mmrl.core.messages import pieces_of
from mmrl.core.text import printable

WIDE = 10_000  # columns: no table is wider
ROW_CHARS = 500  # of a broken row that are printed


def sample_panel(sample: Sample) -> Panel:
    """One sample: its media, its prompt and its gold answer."""
    lines = [
        Text.assemble((f"{message['role']}: ", "bold"), printable(" ".join(pieces_of(message["content"]))))
        for message in sample.prompt
    ]
    lines += [Text.assemble(("answer: ", "bold green"), printable(dumps(sample.answer)))]
    lines += [Text(printable(media_line(item)), style="dim") for item in sample.media]
    lines += [Text(printable(f"meta {dumps(dict(sample.meta))}"), style="dim")] if sample.meta else []
    title = Text(printable(f"{sample.id} · {sample.source} · {sample.task}"))
    return Panel(Group(*lines), title=title, title_align="left")


def plan_table(planned: Plan, engine: str, output: Path | None) -> Table:
    """The steps of a recipe, and where it reads and writes."""
    table = Table("step", "what", "options", "where")
    pool = "worker processes" if engine == "local" else "Ray"
    for source in planned.sources:
        limit = f", at most {source.spec.limit:,}" if source.spec.limit else ""
        table.add_row("read", source.label, _options(source.args), f"main process{limit}")
    for stage in planned.stages:
        where = "main process, in order" if stage.kind == "stream" else pool
        table.add_row("operate", stage.name, _options(stage.args), where)
    table.add_row("write", str(output or "(--out DIR)"), "", "main process")
    return table


def cost_table(lengths: Sequence[Length], costs: Sequence[Cost]) -> Table:
    """The cost of each step, measured and for all samples; a stopped sample costs later steps nothing."""
    known = [source.n for source in lengths if source.n is not None]
    total, exact = sum(known), len(known) == len(lengths) and all(source.exact for source in lengths)
    sources = ", ".join(f"{source.source} {_length(source)}" for source in lengths)
    table = Table(
        "step", "tried", "stopped", "media opened", "MB", "ms a sample", "all, one core", title=f"cost of {sources}"
    )
    names = {f"read {source.source}": source for source in lengths}
    share = 1.0
    for cost in costs:
        if not cost.n:
            table.add_row(Text(cost.step), *["-"] * 6)
            continue
        length = names.get(cost.step)
        n = (length.n or 0) if length else total * share
        each = cost.seconds / cost.n
        seconds = f"{'' if exact else 'over '}{each * n:,.1f} s"
        opened = f"{cost.files:,}", f"{cost.bytes / 1e6:,.2f}", f"{1000 * each:,.2f}"
        stopped = sum(cost.stopped.values())
        table.add_row(Text(cost.step), f"{cost.n:,}", f"{stopped:,}", *opened, seconds)
        share *= 1.0 if length else 1 - stopped / cost.n
    table.caption = Text("\n".join(_remarks(costs)))
    return table


def _remarks(costs: Sequence[Cost]) -> list[str]:
    """Why samples were stopped, and what could not be tried."""
    lines = [
        printable(f"{cost.step} stopped {count:,}: {reason}")
        for cost in costs
        for reason, count in sorted(cost.stopped.items())
    ]
    refused = [printable(f"{cost.step}: {cost.refused}") for cost in costs if cost.refused]
    return [*lines, *(["could not be tried on these samples alone:"] if refused else []), *refused]


def _length(length: Length) -> str:
    if length.n is None:
        return "(needs a network, not read)"
    return f"{length.n:,}" if length.exact else f"{length.n:,} or more"


def _options(args: Mapping[str, Any]) -> Text:
    return Text(", ".join(f"{name}={_written(value)}" for name, value in args.items() if name != "root"))


def _written(value: Any) -> str:
    """An option as a recipe writes it."""
    plain = value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value
    return plain if isinstance(plain, str) else json.dumps(plain, default=str, ensure_ascii=False)


def fitted(console: Console, table: Table, *droppable: str) -> Table:
    """`table` without the droppable columns, in their order, that the width of the console has no room for."""
    whole = console.options.update(width=WIDE)  # within the console's own width every table fits: its cells are broken
    for name in droppable:
        if console.measure(table, options=whole).maximum > console.width:
            table.columns = [column for column in table.columns if column.header != name]
    return table


def quarantine_rows(directory: Path) -> Iterator[dict[str, str]]:
    """The quarantine of a dataset: rows of reason, why, source, where and row (JSON)."""
    for file in sorted((directory / "quarantine").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


def quarantine_panel(row: Mapping[str, str]) -> Panel:
    """One broken input: what is wrong with it, and how it was written."""
    rest = f" ... {len(row['row']) - ROW_CHARS:,} more characters" if len(row["row"]) > ROW_CHARS else ""
    lines = [Text(printable(row["why"])), Text(printable(row["row"][:ROW_CHARS]) + rest, style="dim")]
    title = Text(printable(f"{row['reason']} · {row['source']} · {row['where']}"))
    return Panel(Group(*lines), title=title, title_align="left")


def media_line(media: Media) -> str:
    """One media item in a line: kind, size, time, place."""
    words = [media.kind, f"{media.width}x{media.height}"]
    if media.kind == "video":
        words += [f"{media.num_frames} frames", f"{media.duration} s"]
    if media.start is not None or media.end is not None:
        words.append(f"cut {media.start}-{media.end} s")
    return " ".join([*words, media.path or f"{len(media.bytes or b'')} bytes"])


def stats_tables(samples: Iterable[Sample]) -> list[Table]:
    """Counts by task, source and split, and the range of sizes and durations."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        kinds = "+".join(item.kind for item in sample.media) or "text only"
        for name, value in (("task", sample.task), ("source", sample.source), ("media", kinds)):
            counts[name][value] += 1
        counts["split"][str(sample.meta.get("split", "none"))] += 1
        for item in sample.media:
            measured = {"width": item.width, "height": item.height, "frames": item.num_frames, "seconds": item.duration}
            for name, value in measured.items():
                if value is not None:
                    numbers[f"{item.kind} {name}"].append(value)
    return [*(count_table(name, counts[name]) for name in counts), _ranges(numbers)]


def difficulty_table(rows: Iterable[Difficulty]) -> Table:
    """By task: how many samples are right how often, of as many draws; those without any score apart."""
    by_task: dict[tuple[str, str], list[Difficulty]] = defaultdict(list)
    for row in rows:
        by_task[row.task, row.reward].append(row)
    table = Table(
        "task", "reward", "samples", "draws", "mean", "none right", "some", "all right", "no score", "truncated"
    )
    for (task, reward), rows_of_task in sorted(by_task.items()):
        draws = sum(row.draws for row in rows_of_task)
        means = [row.mean for row in rows_of_task if row.mean is not None]
        scored = [row for row in rows_of_task if row.n]
        none, every = sum(row.right == 0 for row in scored), sum(row.right == row.n for row in scored)
        counts = (none, len(scored) - none - every, every, len(rows_of_task) - len(scored))
        shares = (f"{count / len(rows_of_task):.1%}" for count in counts)
        mean = f"{statistics.fmean(means):.3f}" if means else "-"
        cut = sum(row.truncated for row in rows_of_task) / draws
        table.add_row(
            task, Text(printable(reward)), f"{len(rows_of_task):,}", f"{draws:,}", mean, *shares, f"{cut:.1%}"
        )
    return table


def mix_note(mix: Mapping[str, float] | None, kept: Mapping[str, int], dropped: Mapping[str, int]) -> str:
    """How many samples the mix of a recipe leaves out, and which source is too small for more; or nothing.

    >>> mix_note({"a": 1, "b": 1}, {"a": 5, "b": 5}, {"mix: over_share_of_a": 20})
    'mix leaves out 20 of 30 samples: there are only 5 of b. Give it less weight, or repeat it by a quota'
    """
    over = {name: dropped.get(f"mix: over_share_of_{name}", 0) for name, weight in (mix or {}).items() if weight > 0}
    short = [f"{kept.get(name, 0):,} of {name}" for name, left_out in over.items() if not left_out]
    total = sum(over.values())
    if not total or not short:
        return ""
    names = "it" if len(short) == 1 else "them"
    whole = total + sum(kept.values())
    return (
        f"mix leaves out {total:,} of {whole:,} samples: there are only {' and '.join(short)}. "
        f"Give {names} less weight, or repeat {names} by a quota"
    )


def count_table(name: str, counts: Mapping[str, int]) -> Table:
    """Counts, largest first, with their share and their sum."""
    total = sum(counts.values())
    table = Table(name, "samples", "share")
    for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(Text(printable(value)), f"{count:,}", f"{count / max(total, 1):.1%}")
    table.add_section()
    table.add_row("all", f"{total:,}", "")
    return table


def _ranges(numbers: Mapping[str, Sequence[float]]) -> Table:
    table = Table("media", "n", "smallest", "median", "largest")
    for name, values in sorted(numbers.items()):
        cells = (f"{value:,.6g}" for value in (min(values), statistics.median(values), max(values)))
        table.add_row(name, f"{len(values):,}", *cells)
    return table
