"""`mmrl train CONFIG`: run the stages of a config; with `--plan` or `--smoke` only see what that would mean."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrl.commands import new_app
from mmrl.core.config import InputError, load

if TYPE_CHECKING:
    from mmrl.train.config import TrainConfig

app = new_app()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a TrainConfig, or `list` or `show`")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="print what the run would do and need, and stop")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="two steps on a CPU, with a tiny random twin")] = False,
) -> None:
    """Train a model by the stages of CONFIG: SFT (`sft:` block), DPO (`dpo:`), GRPO (`grpo:`), in this order; a reward
    model by `reward:`; an editor of pictures by `sft:` and `flow:`.

    `mmrl train list` lists the estimators of advantages, tools and the keys of a config. `mmrl train show NAME` shows
    an estimator, a tool, the keys of a block (grpo), or one of them (grpo.beta).
    """
    if str(config) in ("list", "show") and not config.exists():
        _print_names(str(config), overrides or [])
        return
    from eval.distributed import Processes
    from mmrl.train.config import TrainConfig
    from mmrl.train.smoke import miniature, tried
    from mmrl.train.stages import run

    loaded = load(TrainConfig, config, overrides)
    if plan:
        _print_plan(loaded)
    elif smoke:
        with tempfile.TemporaryDirectory() as directory:
            small = miniature(loaded, Path(directory))
            run(small)
            lines = tried(loaded, small)
        typer.echo("\n".join(["smoke test passed: every stage made two steps with a tiny random model", *lines]))
    else:
        final = run(loaded)
        if Processes().main:
            typer.echo(f"trained model: {final}")


def _print_names(action: str, names: list[str]) -> None:
    from mmrl.commands.names import list_train, show_train

    if len(names) != (action == "show"):
        raise InputError(f"mmrl train {action} takes {'a name' if action == 'show' else 'nothing more'}, got {names}")
    print(show_train(*names)) if names else list_train()


def _print_plan(config: TrainConfig) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmrl.train.asked import Asked
    from mmrl.train.config import makes_pictures, without_device
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
    if makes_pictures(config):
        return
    asked = Asked(config)
    for task, prompt in asked.prompts().items():
        typer.echo(f"\nprompt of the task {task}:\n{prompt}")
    for doubt in asked.doubts():
        typer.echo(f"\nwarning: {doubt}")
