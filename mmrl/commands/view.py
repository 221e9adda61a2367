"""`mmrl view OUT`: a page of what a training run, an evaluation or a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.commands import new_app

app = new_app()


@app.command()
def view(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A training run, an evaluation or a dataset.")],
    step: Annotated[int | None, typer.Option(help="The training step; default: the last.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many prompts at most, evenly spread.")] = 40,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: OUT/view.html.")] = None,
) -> None:
    """Write a page of prompts with pictures, gold answers, completions and verdicts, to be opened in any browser."""
    from mmrl.core.html import write_page
    from mmrl.pages.rollout_pages import as_page, chosen, left_out

    selection = chosen(out, step=step, task=task, limit=limit)
    place = write_page(as_page(selection), to or out / "view.html")
    if note := left_out(selection):
        typer.echo(note)
    typer.echo(f"{len(selection.exhibits)} prompts: {place}")
