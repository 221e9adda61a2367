"""`mmrl eval run | score | report | compare | frontier | export | rewards | probes`, also `python -m eval`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrl.commands import new_app
from mmrl.core.config import InputError, load
from mmrl.core.files import check_writable, write_atomic

if TYPE_CHECKING:
    from eval.config import EvalConfig
    from eval.report_tables import ReportTable

app = new_app("Evaluate a model and compare evaluations.")

WIDTH = 140  # of the widest table
BEST_OF = (2, 4, 8, 16, 32)  # of a frontier
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="An evaluation, as in configs/eval/.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Changes to the config.")]
Numbers = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers to FILE.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The `out` directory of a run.")]


@app.command()
def run(config: ConfigFile, overrides: Overrides = None) -> None:
    """Answer, score and record the samples of CONFIG, then report; a run that was stopped resumes."""
    from eval.distributed import Processes
    from eval.run import EvalConfig
    from eval.run import run as run_evaluation

    chosen = load(EvalConfig, config, overrides)
    if chosen.lmms:
        _print_lmms(chosen)
        return
    run_evaluation(chosen)
    if Processes().main:
        for part in [Path(chosen.out)] if len(chosen.benchmarks) > 1 else [Path(each.out) for each in chosen.parts()]:
            _report(part)


@app.command("list")
def list_names() -> None:
    """List the benchmarks, and the published sets of preferences."""
    from mmrl.commands.names import list_eval

    list_eval()


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="BENCHMARK", help="A name from `list`.")]) -> None:
    """Show what a benchmark asks, where its data are, what scores it, and a config that runs it."""
    from mmrl.commands.names import show_eval

    print(show_eval(name))


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
    """Write report.md, report.json and report.html of RUN and print the table; of several benchmarks, one over all."""
    from eval.whole_run import parts_in
    from mmrl.pages.evaluation_page import run_page

    _report(directory)
    for place in parts_in(directory).values():
        page = run_page(place, place / "report.html")
        _console().print(f"page with pictures in {page}", markup=False, soft_wrap=True)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="The `out` directory of a run.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The run compared with it.")],
    to: Numbers = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the flipped items.")] = None,
) -> None:
    """Print how B differs from A, item by item: paired differences with 95 % intervals, and the items that flipped.

    Of runs of several benchmarks, a line for each benchmark that both hold.
    """
    from eval.compare import compare as compare_runs
    from eval.report import setting
    from eval.report_tables import comparison_table
    from eval.whole_run import is_whole
    from mmrl.pages.evaluation_page import compare_page

    for file in filter(None, (to, html)):
        check_writable(file)
    if is_whole(before) or is_whole(after):
        _compare_whole(before, after, to, html)
        return
    content = compare_runs(before, after)
    if to:
        write_atomic(to, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console = _console()
    for name, change in content["protocol"].items():
        console.print(f"{name}: {setting(change['before'])} -> {setting(change['after'])}", markup=False)
    console.print(_table(comparison_table(content["rows"])))
    if html:
        compare_page(before, after, html)
    if content["unmatched"]:
        console.print(f"{content['unmatched']} items are in one of the runs only and do not count")


@app.command()
def frontier(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="A run of the model that others began from.")],
    runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN...]", help="Runs of trained models.")] = None,
    reward: Annotated[str, typer.Option(help="The reward; default: the weighted sum.")] = "total",
    coverage: Annotated[float, typer.Option(min=0, max=1, help="Least probability of a prompt's draws.")] = 0.9,
    to: Numbers = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the curve.")] = None,
) -> None:
    """Print how much reward each policy has for how far it moved, next to best of n and the best that can be had.

    The runs are of `mmrl eval run` with several sampled draws of the same questions. Divergences are exact on the
    answers that were drawn: the models are loaded and say how likely they are.
    """
    from eval.frontier import frontier as found_frontier
    from mmrl.pages.frontier_page import HEAD, frontier_page, frontier_row
    from mmrl.train.answer_laws import drawn_answers

    for file in filter(None, (to, html)):
        check_writable(file)
    named = {str(place): place for place in runs or ()}
    found = found_frontier(drawn_answers(reference, named, reward), BEST_OF, coverage=coverage)
    rows = map(frontier_row, found["points"])
    console = _print_found(found, HEAD, rows, to=to, html=html, page=frontier_page)
    console.print(f"{found['prompts']} prompts, {found['left_out']} left out (too little of the probability was drawn)")


@app.command()
def export(
    directory: Run,
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="lmms_eval, vlmevalkit or docvqa.")],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
) -> None:
    """Write RUN in the files of another harness; of several benchmarks, each in a folder of its name."""
    from eval.export import export as export_run
    from eval.whole_run import is_whole, parts_in

    for name, place in parts_in(directory).items():
        for file in export_run(place, layout, to / name if is_whole(directory) else to):
            print(file)


@app.command()
def rewards(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's YAML file or the name of a reward.")],
    bench: Annotated[Path, typer.Argument(metavar="BENCH", help="A dataset, file or directory of preferences.")],
    layout: Annotated[str | None, typer.Option(help="The published set whose files BENCH holds; see the docs.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a dataset: the split to read; all by default.")] = None,
    steps: Annotated[
        Literal["mean", "min", "last"], typer.Option(help="Of solutions in steps: mean, min or last.")
    ] = "mean",
    max_unjudged: Annotated[float, typer.Option(min=0, max=1, help="Share without a verdict to withhold from.")] = 0.1,
    to: Numbers = None,
) -> None:
    """Measure how often each reward of SUITE prefers the answer that people prefer, by dimension, and its biases."""
    from eval.preferences.pairwise import judged_preferences
    from eval.report_tables import preference_table

    if to:
        check_writable(to)
    content = judged_preferences(suite, bench, layout=layout, split=split, steps=steps, max_unjudged=max_unjudged)
    if to:
        write_atomic(to, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console = _console()
    console.print(_table(preference_table(content["rows"])))
    for name, numbers in content["numbers"].items():
        _print_numbers(console, f"{name} as {layout} reports it", numbers)


@app.command()
def probes(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The directory of a reward head.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Answers with labels, or preferences; see the docs.")],
    centroids: Annotated[int, typer.Option(min=1, help="Of each class of a dimension.")] = 1,
    tau: Annotated[
        float | None, typer.Option(min=0, help="An answer further from all centroids is unsure; default: 1 in 20.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Answers read at once.")] = 8,
    to: Numbers = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the curve.")] = None,
) -> None:
    """Print which dimensions of answers the states of a reward head tell apart, and with unsure answers left out.

    For each dimension a linear probe on frozen states is learned from some answers and tested on those held out.
    """
    from eval.preferences.probes import head_probes
    from mmrl.pages.probes_page import HEAD, probe_row, probes_page

    for file in filter(None, (to, html)):
        check_writable(file)
    found = head_probes(head, data, centroids=centroids, tau=tau, batch=batch)
    rows = map(probe_row, found["dimensions"])
    console = _print_found(found, HEAD, rows, to=to, html=html, page=probes_page)
    console.print(
        f"average {found['average']:.3f}; {found['left_out']:.1%} of the held-out answers are further than "
        f"{found['tau']:.3f} from every centroid; {found['unread']} answers could not be read"
    )


def _print_found(
    found: Mapping[str, Any],
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    to: Path | None,
    html: Path | None,
    page: Callable[[Any, Path], object],
) -> Console:
    """Write the numbers and the page where they are asked for, and print the table to the console that is returned."""
    if to:
        write_atomic(to, json.dumps(found, indent=2) + "\n")
    if html:
        page(found, html)
    table = Table(*head, box=box.SIMPLE)
    for row in rows:
        table.add_row(*map(Text, row))
    console = _console()
    console.print(table)
    return console


def _print_lmms(chosen: EvalConfig) -> None:
    from eval.answer.backends import run_lmms
    from eval.report_tables import ReportTable

    rows: list[list[str]] = []
    for task, values in run_lmms(chosen).items():
        for name, value in values.items():
            metric, comma, variant = name.partition(",")
            if comma and not metric.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
                pair = value, values.get(f"{metric}_stderr,{variant}")
                rows.append([task, metric, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in pair)])
    console = _console()
    console.print(_table(ReportTable("lmms-eval", ("task", "metric", "value", "stderr"), rows, texts=1)))
    console.print(f"lmms-eval's own files in {chosen.out}", markup=False, soft_wrap=True)


def _report(out: Path) -> None:
    """Write and print the report on a run; on one of several benchmarks, the table over them."""
    from eval.report import report as write_report
    from eval.whole_run import headline, is_whole, summary_table, write_summary

    if not is_whole(out):
        content = write_report(out)
        _print_report(out, content)
        if content["metrics"] is not None:
            _console().print(_table(summary_table([headline(content)])))
        return
    rows = write_summary(out)
    console = _console()
    console.print(_table(summary_table(rows)))
    for row in rows:
        if row["incomplete"]:
            console.print(f"{row['benchmark']}: {row['incomplete']}", style="bold red", markup=False)
    console.print(f"{len(rows)} benchmarks, reports in {out / 'report.md'}", markup=False, soft_wrap=True)


def _compare_whole(before: Path, after: Path, to: Path | None, html: Path | None) -> None:
    from eval.whole_run import compared, compared_table

    contents = compared(before, after)
    if not contents:
        raise InputError(f"{before} and {after} have no benchmark in common")
    if html:
        raise InputError(f"--html is of one benchmark: give {before / contents[0][0]} and {after / contents[0][0]}")
    if to:
        write_atomic(to, json.dumps(dict(contents), indent=2, ensure_ascii=False) + "\n")
    _console().print(_table(compared_table(contents)))


def _print_report(out: Path, content: Mapping[str, Any]) -> None:
    from eval.report import warnings
    from eval.report_tables import score_table

    console = _console()
    console.print(_table(score_table(content["rows"])))
    for warning in warnings(content):
        console.print(warning, style="bold red", markup=False)
    console.print(f"{content['records']} records, report in {out / 'report.md'}", markup=False, soft_wrap=True)


def _print_numbers(console: Console, title: str, numbers: Mapping[str, float | None] | None) -> None:
    from eval.report_tables import metric_table

    metrics = metric_table(numbers or {"withheld: too many verdicts are missing": None})
    console.print(_table(replace(metrics, columns=(title, ""))))


def _console() -> Console:
    """A console wide enough for every table: in a narrow window lines wrap, but no digit is lost."""
    console = Console()
    console.width = max(console.width, WIDTH)
    return console


def _table(given: ReportTable) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for place, column in enumerate(given.columns):
        table.add_column(column, no_wrap=True, justify="left" if place < given.texts else "right")
    for row in given.rows:
        table.add_row(*map(Text, row))
    return table
