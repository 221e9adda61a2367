"""`mmrl data pairs RUN`: preference samples of a run's answers."""

from __future__ import annotations

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

    counts = write_pairs(run, reward, out, gap=gap)
    console = Console()
    for cause, count in sorted(counts.items()):
        if cause != "pairs":
            console.print(f"{count:,} groups give none: {cause}", markup=False, soft_wrap=True)
    console.print(f"{out}: {counts['pairs']:,} pairs", markup=False, soft_wrap=True)
