"""`mmrl eval run | score | report | compare | export | rewards`, also `python -m eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mmrl.commands import new_app
from mmrl.core.config import load
from mmrl.core.files import check_writable, write_atomic

app = new_app("Evaluate a model and compare evaluations.")

WIDTH = 140  # of the widest table
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="An evaluation, as in configs/eval/.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Changes to the config.")]
Numbers = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers to FILE.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The `out` directory of a run.")]


@app.command()
def run(config: ConfigFile, overrides: Overrides = None) -> None:
    """Answer, score and record the samples of CONFIG, then report; a run that was stopped goes on."""
    from eval.benchmarks.combined import write_combined
    from eval.distributed import Processes
    from eval.report import report as write_report
    from eval.run import EvalConfig
    from eval.run import run as run_evaluation

    chosen = load(EvalConfig, config, overrides)
    if chosen.lmms:
        _print_lmms(chosen)
        return
    run_evaluation(chosen)
    if Processes().main:
        for part in chosen.parts():
            _print_report(Path(part.out), write_report(Path(part.out)))
        if numbers := write_combined(Path(chosen.out), chosen.benchmarks):
            _console().print(_numbers("together", numbers))


@app.command()
def score(
    directory: Run,
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="A suite's YAML file or another run; default: RUN's own.")
    ] = None,
) -> None:
    """Compute every score of RUN again from its records, then report; needs no model."""
    from eval.report import report as write_report
    from eval.score import rescore

    records = rescore(directory, suite)
    _print_report(directory, write_report(directory, records))


@app.command()
def report(directory: Run) -> None:
    """Write report.md, report.json and report.html of RUN and print the table."""
    from eval.report import report as write_report

    _print_report(directory, write_report(directory))
    place = resolve_name("mmrl.pages.evaluation_page:run_page")(directory, directory / "report.html")
    _console().print(f"page with pictures in {place}", markup=False, soft_wrap=True)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="The `out` directory of a run.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The run compared with it.")],
    to: Numbers = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the flipped items.")] = None,
) -> None:
    """Print how B differs from A, item by item: paired differences with 95 % intervals, and the items that flipped."""
    from eval.compare import compare as compare_runs
    from eval.report import interval, setting

    for file in filter(None, (to, html)):
        check_writable(file)
    content = compare_runs(before, after)
    if to:
        write_atomic(to, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console = _console()
    for name, change in content["protocol"].items():
        console.print(f"{name}: {setting(change['before'])} -> {setting(change['after'])}", markup=False)
    table = _table("task", "reward", "A", "B", "B - A", "95 % interval", "n", "flips")
    for row in content["rows"]:
        means = [f"{row['before']:.3f}", f"{row['after']:.3f}", f"{row['difference']:+.3f}", interval(row)]
        flips = f"+{len(row['gained'])} -{len(row['lost'])}"
        table.add_row(row["task"], row["reward"], *means, str(row["n"]), flips)
    console.print(table)
    if html:
        resolve_name("mmrl.pages.evaluation_page:compare_page")(before, after, html)
    if content["unmatched"]:
        console.print(f"{content['unmatched']} items are in one of the runs only and do not count")


@app.command()
def export(
    directory: Run,
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="lmms_eval, vlmevalkit or docvqa.")],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
) -> None:
    """Write RUN in the files of another harness."""
    from eval.bridges import export as export_run

    for file in export_run(directory, layout, to):
        print(file)


@app.command()
def rewards(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's YAML file or the name of a reward.")],
    bench: Annotated[Path, typer.Argument(metavar="BENCH", help="A dataset, file or directory of preferences.")],
    layout: Annotated[str | None, typer.Option(help="The published set whose files BENCH holds; see the docs.")] = None,
    steps: Annotated[
        Literal["mean", "min", "last"], typer.Option(help="Of solutions in steps: mean, min or last.")
    ] = "mean",
    max_unjudged: Annotated[float, typer.Option(min=0, max=1, help="Share without a verdict to withhold from.")] = 0.1,
    to: Numbers = None,
) -> None:
    """Say how often each reward of SUITE prefers what people prefer, by dimension, and what else moves it."""
    from eval.preferences.pairwise import judged_preferences
    from eval.report import interval, shown_mean

    if to:
        check_writable(to)
    content = judged_preferences(suite, bench, layout=layout, steps=steps, max_unjudged=max_unjudged)
    if to:
        write_atomic(to, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    columns = ("accuracy", "95 % interval", "n", "no verdict", "order decides", "ECE", "length corr.")
    table = _table("reward", "task", *columns)
    for row in content["rows"]:
        error = row["calibration"]["ece"] if row["calibration"] else None
        numbers = [row["unjudged"], row["swapped"], error, row["length_correlation"]]
        shown = ["-" if number is None else f"{number:.3f}" for number in numbers]
        table.add_row(row["reward"], row["dimension"], shown_mean(row), interval(row), str(row["n"]), *shown)
    console = _console()
    console.print(table)
    for name, numbers in content["numbers"].items():
        console.print(_numbers(f"{name} as {layout} reports it", numbers))


def _print_lmms(chosen: Any) -> None:
    from eval.answer.backends import run_lmms

    table = _table("task", "metric", "value", "stderr")
    for task, found in run_lmms(chosen).items():
        for name, value in found.items():
            metric, comma, kept = name.partition(",")
            if comma and not metric.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
                error = found.get(f"{metric}_stderr,{kept}")
                table.add_row(
                    task, metric, *(f"{one:.3f}" if isinstance(one, float) else str(one) for one in (value, error))
                )
    console = _console()
    console.print(table)
    console.print(f"lmms-eval's own files in {chosen.out}", markup=False, soft_wrap=True)


def _print_report(out: Path, content: Mapping[str, Any]) -> None:
    from eval.report import interval, shown_mean, warnings

    table = _table("task", "reward", "mean", "95 % interval", "n", "unparsed", "no verdict")
    for row in content["rows"]:
        shares = [f"{row['unparsed']:.1%}", f"{row['abstained'] + row['failed']:.1%}"]
        table.add_row(row["task"], row["reward"], shown_mean(row), interval(row), str(row["n"]), *shares)
    console = _console()
    console.print(table)
    for warning in warnings(content):
        console.print(warning, style="bold red", markup=False)
    console.print(f"{content['records']} records, report in {out / 'report.md'}", markup=False, soft_wrap=True)


def _numbers(title: str, numbers: Mapping[str, float | None] | None) -> Table:
    table = Table(title, "", box=box.SIMPLE, pad_edge=False)
    for name, value in (numbers or {"withheld: too many verdicts are missing": None}).items():
        table.add_row(name, "-" if value is None else f"{value:.3f}")
    return table


def _console() -> Console:
    """A console wide enough for every table: in a narrow window lines wrap, but no digit is lost."""
    console = Console()
    console.width = max(console.width, WIDTH)
    return console


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column in ("task", "reward") else "right")
    return table
