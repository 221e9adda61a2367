"""`mmrl reward`: list the rewards, show one, score a file of rollouts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ConfigDict
from rich.console import Console
from rich.table import Table

from mmrl.config import Config, load
from rewards.base import Verdict
from rewards.files import read_rollouts, write_scores
from rewards.spec import REWARDS, RewardFailure, Suite, function_of, options_of

app = typer.Typer(help="Try any reward offline.", no_args_is_help=True, add_completion=False)


@app.command("list")
def list_rewards() -> None:
    """List the registered rewards."""
    table = Table("reward", "scores", box=None)
    for name in sorted(REWARDS):
        table.add_row(name, _doc(name).split("\n")[0])
    Console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help='A registered name, or "module:function".')]) -> None:
    """Show what NAME scores and its options."""
    options = [f"  {option}: {kind}{default}" for option, kind, default in _options(function_of(name))]
    print("\n".join([name, *options, "", _doc(name)]))


@app.command()
def score(
    suite: Annotated[str, typer.Argument(help="A YAML file, or the name of a reward.")],
    rollouts: Annotated[Path, typer.Argument(help="JSON lines with `completion`, `answer` and more.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the scores, as JSON lines.")] = None,
) -> None:
    """Score the completions in ROLLOUTS with SUITE; key=value changes the suite, or sets the options of the reward."""
    scorer = suite_of(suite, overrides)
    rows = list(read_rollouts(rollouts))
    try:
        verdicts = scorer.score([rollout for _, rollout in rows])
    except RewardFailure as failure:
        typer.echo(f"mmrl reward: {failure}", err=True)
        raise typer.Exit(1) from None
    if out:
        write_scores(out, zip((name for name, _ in rows), verdicts, strict=True))
    Console().print(summary(scorer, verdicts))


class _Options(Config):
    model_config = ConfigDict(extra="allow")


def suite_of(source: str, overrides: Sequence[str] | None = None) -> Suite:
    """The suite in a YAML file; or that of one reward, in the column of its name, with `overrides` as its options."""
    if source.endswith((".yaml", ".yml")):
        return Suite.load(source, overrides)
    return Suite({source: {"fn": source, "args": dict(load(_Options, None, overrides))}})


def summary(suite: Suite, verdicts: Sequence[Mapping[str, Verdict]]) -> Table:
    """One row per reward: its mean over n scores, how many of these are completions it could not read, and the rest."""
    table = Table("reward", "weight", "mean", "n", "unparsed", "abstained", "failed")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, weight in zip(suite.names, suite.weights, strict=True):
        scores = [score for row in verdicts if (score := row[name].score) is not None]
        mean = f"{sum(scores) / len(scores):.3f}" if scores else "-"
        counts = suite.counts[name]
        cells = (f"{weight:g}", mean, len(scores), counts["unparsed"], counts["abstained"], counts["failed"])
        table.add_row(name, *map(str, cells))
    return table


def _options(function: Any) -> Iterator[tuple[str, str, str]]:
    """The name, type and default of every option."""
    for name, field in options_of(function).model_fields.items():
        default = "" if field.is_required() else f" = {field.default!r}"
        yield name, inspect.formatannotation(field.annotation), default


def _doc(name: str) -> str:
    return inspect.getdoc(function_of(name)) or "(no description)"
