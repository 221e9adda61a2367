"""`mmrl demo`: curate real data, improve a small vision-language model by reinforcement learning, show what changed."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmrl.core.config import load

app = typer.Typer(add_completion=False)
logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="where everything is written")] = Path("demo_out"),
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
) -> None:
    """Curate, train with GRPO and evaluate on the CPU, in minutes; ends with a table and a report page.

    Overrides are those of `mmrl train`, such as grpo.max_steps=20. A demo that was stopped goes on where it stopped.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
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
    final = trained(config)
    console.print(f"      {time.monotonic() - started:.0f} s")
    console.print("[bold]4/4[/] evaluate the trained model on the same questions")
    runs |= {name: evaluated(config, final, out, name) for name in ("greedy_after", "sampled_after")}
    summary = summarised(runs)
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    from mmrl.demo.report import write_report

    page = write_report(out, summary=summary, runs=runs, training=Path(config.output))
    console.print(table(summary))
    console.print(f"report: {page}")


def curated(out: Path) -> Path:
    """The demo's dataset, built from its recipe unless it is there."""
    from data_engine.engine.pipeline import run
    from data_engine.recipe import Recipe

    if not (out / "manifest.json").exists():
        run(load(Recipe, HERE / "recipe.yaml"), out=out, workers=os.cpu_count() or 1)
    return out


def training(data: Path, out: Path, overrides: list[str] | None) -> Any:
    """The config of the demo's training."""
    from mmrl.train.stages import TrainConfig

    places = [f"model={CHECKPOINT}", f"data={data}", f"output={out / 'train'}"]
    return load(TrainConfig, HERE / "train.yaml", [*places, *(overrides or [])])


def trained(config: Any) -> Path:
    """The directory of the trained model."""
    from mmrl.train.stages import run

    return run(config)


def evaluated(config: Any, model: Path, out: Path, name: str) -> Path:
    """Evaluate `model` on the test split as `name` says (greedy, sampled or blind); the directory of the records."""
    from eval.run import EvalConfig, run

    sampling: dict[str, Any] = {"max_new_tokens": config.grpo["max_completion_length"]}
    if name.startswith("sampled"):
        sampling |= {"do_sample": True, "temperature": config.grpo["temperature"], "samples": 3, "seed": 1}
    values = {
        "model": str(model),
        "data": {"path": config.data, "split": "test"},
        "rewards": config.rewards,
        "out": str(out / "eval" / name),
        "vision": config.vision,
        "space": config.space,
        "sampling": sampling,
        "blind": name == "blind",
        "batch_size": 50,
    }
    run(EvalConfig.model_validate(values))
    return out / "eval" / name


def summarised(runs: dict[str, Path]) -> list[dict[str, Any]]:
    """One row per task, reward and decoding: before, after, the paired difference with its interval, and the score
    without the picture (`prior`, greedy)."""
    from eval.compare import compare
    from eval.report import report

    blind = {(row["task"], row["reward"]): row["mean"] for row in report(runs["blind"])["rows"]}
    columns = ("task", "reward", "before", "after", "n", "difference", "low", "high")
    return [
        {
            **{column: row[column] for column in columns},
            "decoding": decoding,
            "prior": blind.get((row["task"], row["reward"])),
        }
        for decoding in ("greedy", "sampled")
        for row in compare(runs[f"{decoding}_before"], runs[f"{decoding}_after"])["rows"]
    ]


def table(summary: list[dict[str, Any]]) -> Table:
    """The weighted sum of rewards by task, before and after; every reward is in `summary.json` and in the report."""
    shown = Table("task", "decoding", "before", "after", "difference (95 %)", "without picture", "n")
    for row in summary:
        if row["reward"] == "total":
            interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            prior = "" if row["prior"] is None else f"{row['prior']:.3f}"
            numbers = (f"{row['before']:.3f}", f"{row['after']:.3f}", interval, prior, str(row["n"]))
            shown.add_row(row["task"], row["decoding"], *numbers)
    return shown
