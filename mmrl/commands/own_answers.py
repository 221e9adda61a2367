"""`mmrl data pairs RUN`, `steps RUN` and `score CONFIG`: data that a policy's own answers give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def pairs(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output of `mmrl train` or `mmrl eval run`.")],
    out: Annotated[Path, typer.Option(help="The dataset directory to write.")],
    reward: Annotated[str | None, typer.Option(help="The reward that decides, if the run has several.")] = None,
    gap: Annotated[float, typer.Option(min=0, help="Best and worst are further apart than this.")] = 0.0,
) -> None:
    """Write pairs of a run's answers, the best and the worst of each group, as samples of the task `preference`.

    Groups whose answers score the same give none. The stage `dpo` of `mmrl train` learns from such samples.
    """
    from mmrl.train.run_pairs import write_pairs

    _print(write_pairs(run, reward, out, gap=gap), "pairs", out, "groups")


def steps(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output of `mmrl train` or `mmrl eval run`.")],
    out: Annotated[Path, typer.Option(help="The dataset directory to write.")],
    suite: Annotated[
        Path | None, typer.Argument(metavar="SUITE", help="A suite of one reward that scores parts of answers.")
    ] = None,
    onsets: Annotated[bool, typer.Option("--onsets", help="Keep the scores where phases begin alone.")] = False,
    after: Annotated[str, typer.Option(help="Instead of a suite: steps end behind this text.")] = "",
    reward: Annotated[str | None, typer.Option(help="With --after: the run's reward, if it has several.")] = None,
) -> None:
    """Write a run's answers with scores at the ends of their steps, as samples of the task `steps`.

    The reward says which parts it scored, as self_hallucination does of sentences. With --after, the score of a step is
    the mean of what the answers earned that begin alike up to there, as those of a tree do. Heads of the kinds process
    and distilled learn from such samples.
    """
    from mmrl.core.config import InputError
    from mmrl.train.run_steps import write_steps, write_tree_steps
    from rewards import Suite

    if after and suite is None and not onsets:
        counts = write_tree_steps(run, reward, out, after=after)
    elif suite is not None and not after and reward is None:
        counts = write_steps(run, Suite.load(suite), out, onsets=onsets)
    else:
        raise InputError(
            "give a SUITE whose reward scores steps, perhaps with --onsets; or --after, perhaps with --reward"
        )
    _print(counts, "answers", out)


def score(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A ScoreConfig, as in configs/score/.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
) -> None:
    """Score a policy's answers to every prompt of a dataset, and write the dataset with these scores in its samples.

    The reward `shape` compares with them (PAR, InfAlign); with demonstrations=true the estimator grpo_s gets the scores
    of the gold answers. A run that was stopped goes on where it stopped.
    """
    from mmrl.core.config import load
    from mmrl.train.reference_scores import ScoreConfig, write_scored

    written = load(ScoreConfig, config, overrides)
    counts = write_scored(written)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items(), reverse=True))
    if listed:  # of several processes one writes the dataset
        Console().print(f"{written.dataset}: {listed}", markup=False, soft_wrap=True)


def _print(counts: Mapping[str, int], made: str, out: Path, of: str = "answers") -> None:
    """How many samples were made, and how many things gave none, by the cause."""
    console = Console()
    for cause, count in sorted(counts.items()):
        if cause != made:
            console.print(f"{count:,} {of} give none: {cause}", markup=False, soft_wrap=True)
    console.print(f"{out}: {counts[made]:,} {made}", markup=False, soft_wrap=True)
