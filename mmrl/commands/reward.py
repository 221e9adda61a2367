"""`mmrl reward`: list the rewards, show one, score a file of rollouts, test rewards on spoilt gold answers, attack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ConfigDict
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mmrl.commands import new_app
from mmrl.commands.catalogue import entry, first_lines, print_list
from mmrl.core.config import Config, InputError, load
from mmrl.core.files import check_writable, write_atomic
from rewards.base import Verdict
from rewards.registry import REWARDS, function_of
from rewards.rollout_files import read_gold, read_rollouts, write_scores
from rewards.suite import Suite
from rewards.workbench import PERTURBATIONS, Finding, try_suite

app = new_app("Try any reward offline.")


@app.command("list")
def list_rewards() -> None:
    """List the registered rewards."""
    print_list("reward", first_lines({name: function_of(name) for name in REWARDS}))


@app.command()
def show(name: Annotated[str, typer.Argument(help='A registered name, or "module:function".')]) -> None:
    """Show what NAME scores and its options."""
    print(entry(name, function_of(name)))


@app.command()
def score(
    suite: Annotated[str, typer.Argument(help="A YAML file, or the name of a reward.")],
    rollouts: Annotated[
        Path, typer.Argument(help="JSON lines with `completion` and `answer`; or OUT of a training or an evaluation.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the scores, as JSON lines.")] = None,
) -> None:
    """Score the completions in ROLLOUTS with SUITE; key=value changes the suite, or sets the options of the reward."""
    scorer = suite_of(suite, overrides)
    rows = list(read_rollouts(rollouts))
    if out:
        check_writable(out)
    verdicts = scorer.score([rollout for _, rollout in rows])
    if out:
        write_scores(out, zip((name for name, _ in rows), verdicts, strict=True))
    Console().print(summary(scorer, verdicts))
    if scorer.judges:
        Console().print(judge_summary(scorer))


@app.command("test")
def try_rewards(
    suite: Annotated[str, typer.Argument(help="A YAML file, or the name of a reward.")],
    dataset: Annotated[
        Path, typer.Argument(help="A dataset directory, or JSON lines with `completion`, `answer` and `task`.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the table, as JSON.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Samples that are tried, from the first on.")] = 500,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 if a reward is lax or fails.")] = False,
) -> None:
    """Show what SUITE gives for the gold answers of DATASET and for spoilt ones; a lax reward shows at once."""
    scorer = suite_of(suite, overrides)
    if out:
        check_writable(out)
    findings = try_suite(scorer, islice(read_gold(dataset), limit))
    if not findings:
        raise InputError(f"nothing to try: {dataset} has no sample with a written gold answer that {suite} scores")
    if out:
        write_atomic(out, json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    Console().print(_tried(findings))
    for finding in findings:
        for flag in finding.flags:
            print(f"{finding.reward} on {finding.task or 'any task'}: {flag}")
    if strict and any(finding.lax or finding.failed for finding in findings):
        raise typer.Exit(1)


@app.command()
def attack(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An AttackConfig, as configs/rewards/attack.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
) -> None:
    """Find answers that a reward scores wrongly, and write them as pairs to train it on.

    A policy writes them under the reward itself, and a second judge says whether they are good. A run that was stopped
    goes on where it stopped.
    """
    from mmrl.train.attack import FOUND, AttackConfig, attacked

    chosen = load(AttackConfig, config, overrides)
    counts = attacked(chosen)
    console = Console()
    for what, count in sorted(counts.items()):
        console.print(f"{count:,} {what}", markup=False, soft_wrap=True)
    broken = sum(counts[what] for what in FOUND.values())
    console.print(f"{chosen.dataset}: {broken:,} pairs" if broken else "no failure found", markup=False, soft_wrap=True)


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


def _tried(findings: Sequence[Finding]) -> Table:
    """One row per reward and task: its mean for the gold answer and for each spoilt form of it."""
    table = Table("reward", "task", "n", *(name.replace("_", "\n") for name in PERTURBATIONS), box=SIMPLE)
    for finding in findings:
        means = [f"{mean:.2f}" if mean is not None else "-" for mean in map(finding.means.get, PERTURBATIONS)]
        table.add_row(finding.reward, finding.task, str(finding.n), *means)
    return table


def judge_summary(suite: Suite) -> Table:
    """One row per judge: calls, how many the cache answered, requests sent, latency, and failures by cause."""
    table = Table("judge", "calls", "cached", "requests", "p50 s", "p99 s", "failed")
    for name, judge in suite.judges.items():
        counts = judge.metrics.summary()
        times = [f"{counts['seconds'][share]:.2f}" if counts["seconds"] else "-" for share in ("p50", "p99")]
        causes = ", ".join(f"{count} {cause}" for cause, count in counts["failed"].items())
        table.add_row(name, *(str(counts[key]) for key in ("calls", "cached", "requests")), *times, causes)
    return table
