"""`mmrl demo`: curate real data, improve a small vision-language model by reinforcement learning, show what changed.

`mmrl demo edit` does so with a small editor of pictures.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmrl.commands import new_app

app = new_app()
EDIT = "edit"


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="where everything is written; default: demo_out, of edits demo_edit_out")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[edit] [key=value ...]")] = None,
) -> None:
    """Curate, train with GRPO and evaluate on the CPU, in minutes; ends with a table and a report page.

    With `edit` an editor of pictures learns to follow instructions. Overrides are those of `mmrl train`, such as
    grpo.max_steps=20. A demo that was stopped resumes where it stopped.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if overrides and overrides[0] == EDIT:
        of_edits(out or Path("demo_edit_out"), overrides[1:])
    else:
        of_answers(out or Path("demo_out"), overrides)


def of_answers(out: Path, overrides: list[str] | None) -> None:
    """The demo of a model that answers questions."""
    from mmrl.demo.report import write_report
    from mmrl.demo.steps import curated, evaluated, summarised, training
    from mmrl.train.stages import run

    console = Console(width=100)
    console.print("[bold]1/4[/] curate: questions on pictures and videos made of real material")
    data = curated(out / "data")
    console.print("[bold]2/4[/] evaluate the warm checkpoint: greedy, sampled, and without the pictures")
    config = training(data, out, overrides)
    runs = {
        name: evaluated(config, Path(config.model), out, name) for name in ("greedy_before", "sampled_before", "blind")
    }
    console.print("[bold]3/4[/] reinforcement learning")
    started = time.monotonic()
    final = run(config)
    console.print(f"      {time.monotonic() - started:.0f} s")
    console.print("[bold]4/4[/] evaluate the trained model on the same questions")
    runs |= {name: evaluated(config, final, out, name) for name in ("greedy_after", "sampled_after")}
    summary = summarised(runs)
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    page = write_report(out, summary=summary, runs=runs, training=Path(config.output))
    console.print(table(summary))
    console.print(f"report: {page}")


def of_edits(out: Path, overrides: list[str]) -> None:
    """The demo of a model that edits pictures."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    from data_engine.dataset.shards import read_samples
    from mmrl.demo.editor.report import write_report
    from mmrl.demo.editor.steps import HERE, edited, summarised
    from mmrl.demo.steps import curated, training
    from mmrl.train.stages import run

    of_diffusers.disable_progress_bar()  # of parts that are loaded in a moment
    of_transformers.disable_progress_bar()
    console = Console(width=100)
    console.print("[bold]1/4[/] curate: photographs, instructions and right edits")
    config = training(curated(out / "data", HERE), out, overrides, HERE)
    samples, steps = list(read_samples(Path(config.data), split="test")), (config.flow or {})["sampling_steps"]
    console.print("[bold]2/4[/] edit held-out photographs with the warm checkpoint")
    before = edited(Path(config.model), samples, steps)
    console.print("[bold]3/4[/] reinforcement learning")
    started = time.monotonic()
    final = run(config)
    console.print(f"      {time.monotonic() - started:.0f} s")
    console.print("[bold]4/4[/] edit the same photographs with the trained model")
    after = edited(final, samples, steps)
    summary = summarised(before, after)
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    page = write_report(out, summary=summary, before=before, after=after, training=Path(config.output))
    rows = Table("metric", "before", "after", "difference (95 %)", "n")
    for row in summary:
        interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        rows.add_row(row["metric"], f"{row['before']:.3f}", f"{row['after']:.3f}", interval, str(row["n"]))
    console.print(rows)
    console.print(f"report: {page}")


def table(summary: list[dict[str, Any]]) -> Table:
    """The weighted sum of rewards by task, before and after; every reward is in `summary.json` and in the report."""
    rows = Table("task", "decoding", "before", "after", "difference (95 %)", "without picture", "n")
    for row in summary:
        if row["reward"] == "total":
            interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            prior = "" if row["prior"] is None else f"{row['prior']:.3f}"
            numbers = (f"{row['before']:.3f}", f"{row['after']:.3f}", interval, prior, str(row["n"]))
            rows.add_row(row["task"], row["decoding"], *numbers)
    return rows
