"""`python -m mmrl.verifier`: make pairs, teach a tiny model to judge edits, and measure it on held-out instructions.

The first stage (SFT) copies chains that often err; the second (GCPO) compares chains across the two sides of a pair.
Pair accuracy is measured before and after the second, on instructions and photographs that no training sample has.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data_engine.dataset.shards import read_samples, write_dataset
from mmrl.core.config import load
from mmrl.core.failures import reported
from mmrl.core.messages import prompt_text
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.verifier.accuracy import gained, pair_accuracy
from mmrl.verifier.pairs import checked_edits, preferred_edits
from rewards.tasks.golds import chain

logger = logging.getLogger(__name__)
HERE = Path(__file__).parent
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "mean of 8": {"do_sample": True, "temperature": 1.0, "samples": 8, "seed": 1},
}


def main(
    out: Annotated[Path, typer.Option(help="where everything is written")] = Path("runs/verifier"),
    seed: Annotated[int, typer.Option(help="of the data, the model and the training")] = 0,
    sft_steps: Annotated[int, typer.Option(min=1, help="steps of the first stage")] = 500,
    gcpo_steps: Annotated[int, typer.Option(min=1, help="steps of the second stage")] = 150,
    chains: Annotated[int, typer.Option(min=1, help="samples of the first stage")] = 3000,
    pairs: Annotated[int, typer.Option(min=8, help="pairs of the second stage")] = 400,
    held_out: Annotated[int, typer.Option(min=2, help="pairs to measure on")] = 200,
) -> None:
    """Make the data, train both stages, and print pair accuracy before and after GCPO; a stopped run resumes."""
    started = time.monotonic()
    prepare(out, seed=seed, chains=chains, pairs=pairs, held_out=held_out)
    places = [f"data={out / 'data'}", f"seed={seed}"]
    first = stage(
        "sft.yaml", [*places, f"model={out / 'random'}", f"output={out / 'sft'}", f"sft.max_steps={sft_steps}"]
    )
    warm = run(first)
    second = stage("gcpo.yaml", [*places, f"model={warm}", f"output={out / 'gcpo'}", f"grpo.max_steps={gcpo_steps}"])
    for name in DECODINGS:
        evaluated(second, warm, out, "before", name)
    trained = run(second)
    for name in DECODINGS:
        evaluated(second, trained, out, "after", name)
    rows = summarised(out)
    (out / "summary.json").write_text(json.dumps(rows, indent=1))
    Console(width=110).print(table(rows))
    typer.echo(f"{time.monotonic() - started:.0f} s")


def prepare(out: Path, *, seed: int, chains: int, pairs: int, held_out: int) -> None:
    """The dataset (splits sft, train, test) and the random model with a tokenizer of its texts, if not there yet."""
    from mmrl.model.tiny_twins import TinySize, tiny_model

    data, model = out / "data", out / "random"
    if not (data / "manifest.json").exists():
        made = itertools.chain(
            checked_edits(n=chains, seed=seed, doubt=0.3),
            preferred_edits(n=pairs, seed=seed),
            preferred_edits(n=held_out, seed=seed, split="test"),
        )
        write_dataset(made, data, name="verifier", embed_media=True)
    if not (model / "config.json").exists():
        samples = list(itertools.islice(read_samples(data, split="sft"), 200))
        texts = [text for sample in samples for text in (chain(sample.answer), prompt_text(sample.prompt))]
        size = TinySize(hidden=96, layers=3, mlp=256, vision_hidden=64, patch=8, vocab=400)
        for part in tiny_model("qwen2_5_vl", [*texts, *map(str, range(11))], size=size, seed=seed):
            part.save_pretrained(model)


def stage(name: str, overrides: list[str]) -> TrainConfig:
    """The config of a stage, from a file next to this one."""
    return load(TrainConfig, HERE / name, overrides)


def evaluated(config: TrainConfig, model: Path, out: Path, when: str, decoding: str) -> None:
    """Ask `model` about the held-out pairs; the records go to `OUT/eval/WHEN-DECODING`."""
    from eval.run import EvalConfig
    from eval.run import run as evaluate

    values = {
        "model": str(model),
        "data": {"path": config.data, "split": "test"},
        "rewards": {"score": config.rewards["score"]},
        "out": str(place(out, when, decoding)),
        "vision": config.vision,
        "sampling": {"max_new_tokens": (config.grpo or {})["max_completion_length"], **DECODINGS[decoding]},
        "batch_size": 50,
    }
    evaluate(EvalConfig.model_validate(values))


def place(out: Path, when: str, decoding: str) -> Path:
    """Where the records of a measurement are."""
    return out / "eval" / f"{when}-{decoding.replace(' ', '-')}"


def summarised(out: Path) -> list[dict[str, Any]]:
    """Pair accuracy by decoding and fault, before and after, and of all pairs the difference with its interval."""
    rows = []
    for decoding in DECODINGS:
        before, after = (place(out, when, decoding) for when in ("before", "after"))
        pairs = zip(pair_accuracy(before, "score"), pair_accuracy(after, "score"), strict=True)
        rows += [{"decoding": decoding, "fault": old["fault"], "before": old, "after": new} for old, new in pairs]
        next(row for row in rows if row["decoding"] == decoding)["difference"] = gained(before, after, "score")
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `summarised` as a table for the terminal."""
    rows_shown = Table("decoding", "against", "before", "after", "difference (95 %)", "ties", "unread", "pairs")
    for row in rows:
        before, after, gain = row["before"], row["after"], row.get("difference")
        rows_shown.add_row(
            row["decoding"],
            row["fault"],
            estimate_text(before, ".3f"),
            estimate_text(after, ".3f"),
            estimate_text(gain, "+.3f") if gain else "",
            *(f"{before[key]:.2f} > {after[key]:.2f}" for key in ("ties", "unread")),
            str(after["n"]),
        )
    return rows_shown


def estimate_text(estimate: dict[str, Any], form: str) -> str:
    """A mean with its interval; a single pair has none."""
    if estimate["low"] is None:
        return f"{estimate['mean']:{form}}"
    return f"{estimate['mean']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


if __name__ == "__main__":
    with reported("python -m mmrl.verifier"):
        typer.run(main)
