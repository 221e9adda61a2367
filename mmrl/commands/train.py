"""`mmrl train CONFIG`: run the stages of a config; with `--plan` or `--smoke` only see what that would mean."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrl.commands import new_app
from mmrl.core.config import load

if TYPE_CHECKING:
    from mmrl.train.config import TrainConfig

app = new_app()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of a TrainConfig")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="print what the run would do and need, and stop")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="two steps on a CPU, with a tiny random twin")] = False,
) -> None:
    """Train a model: SFT warm-up (`sft:` block), then GRPO (`grpo:` block)."""
    from mmrl.train.config import TrainConfig
    from mmrl.train.smoke import miniature
    from mmrl.train.stages import run

    loaded = load(TrainConfig, config, overrides)
    if plan:
        _print_plan(loaded)
    elif smoke:
        with tempfile.TemporaryDirectory() as directory:
            run(miniature(loaded, Path(directory)))
        typer.echo("smoke test passed: every stage made two steps with a tiny random model")
    else:
        typer.echo(f"trained model: {run(loaded)}")


def _print_plan(config: TrainConfig) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmrl.train.asked import Asked
    from mmrl.train.config import without_device
    from mmrl.train.plan import plan
    from mmrl.train.stages import check

    processes = int(os.environ.pop("WORLD_SIZE", "1"))  # they are planned for; accelerate would wait for them
    config = without_device(config)
    check(config)
    for title, rows in plan(config, processes):
        table = Table(title=title, title_justify="left", show_header=False)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    asked = Asked(config)
    for task, prompt in asked.prompts().items():
        typer.echo(f"\nprompt of the task {task}:\n{prompt}")
    for doubt in asked.doubts():
        typer.echo(f"\nwarning: {doubt}")
