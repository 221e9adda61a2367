"""The steps of the demo: its dataset, its training, its evaluations and their summary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmrl.core.config import load
from mmrl.train.config import TrainConfig

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint"


def curated(out: Path, demo: Path = HERE) -> Path:
    """The dataset of the demo in the folder `demo`, built from its recipe unless it is there."""
    from data_engine.engine.pipeline import run
    from data_engine.recipe import Recipe

    if not (out / "manifest.json").exists():
        run(load(Recipe, demo / "recipe.yaml"), out=out, workers=os.cpu_count() or 1)
    return out


def training(data: Path, out: Path, overrides: list[str] | None, demo: Path = HERE) -> TrainConfig:
    """The config of the training of the demo in the folder `demo`."""
    places = [f"model={demo / 'checkpoint'}", f"data={data}", f"output={out / 'train'}"]
    return load(TrainConfig, demo / "train.yaml", [*places, *(overrides or [])])


def evaluated(config: TrainConfig, model: Path, out: Path, name: str, *, draws: int = 3, split: str = "test") -> Path:
    """Evaluate `model` on a split as `name` says (greedy, sampled or blind); the directory of the records.

    A sampled evaluation has so many `draws` of each question.
    """
    from eval.run import EvalConfig, run

    grpo = config.grpo or {}
    sampling: dict[str, Any] = {"max_new_tokens": grpo["max_completion_length"]}
    if name.startswith("sampled"):
        sampling |= {"do_sample": True, "temperature": grpo["temperature"], "samples": draws, "seed": 1}
    values = {
        "model": str(model),
        "data": {"path": config.data, "split": split},
        "rewards": config.rewards,
        "out": str(out / "eval" / name),
        "vision": config.vision,
        "space": config.space,
        "prompt": config.prompt,
        "rollout": config.rollout.tool_settings(),
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
