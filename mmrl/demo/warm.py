"""`python -m mmrl.demo.warm`: rebuild the demo's warm checkpoint from the data.

It builds 30,000 training samples, trains a tokenizer on their text, and teaches a Qwen2.5-VL of two million parameters,
from random weights, to answer them, somewhat: reinforcement learning can teach a skill that succeeds half the time.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from data_engine.dataset.shards import read_samples
from data_engine.engine.pipeline import run as build
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from mmrl.core.config import load
from mmrl.core.failures import reported
from mmrl.core.messages import texts_of
from mmrl.demo.steps import HERE
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.trainers.targets import rendered

SIZE = TinySize(
    hidden=160, layers=4, heads=5, mlp=448, vision_hidden=96, vision_layers=3, vision_heads=3, patch=8, vocab=512
)


def main(
    out: Annotated[Path, typer.Option(help="where the data and the runs go")] = Path("runs/warm"),
    checkpoint: Annotated[Path, typer.Option(help="where the finished checkpoint goes")] = HERE / "checkpoint",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
) -> None:
    """Build the data, train the tokenizer and the model, store the checkpoint. A run that was stopped resumes."""
    data = out / "data"
    if not (data / "manifest.json").exists():
        build(load(Recipe, HERE / "warm_recipe.yaml"), out=data, workers=os.cpu_count() or 1)
    places = [f"model={out / 'random'}", f"data={data}", f"output={out / 'train'}"]
    config = load(TrainConfig, HERE / "warm.yaml", [*places, *(overrides or [])])
    if not (out / "random" / "config.json").exists():
        texts = [text for sample in read_samples(data) for text in words_of(sample, config)]
        model, processor = tiny_model("qwen2_5_vl", [*texts, *map(str, range(100))], size=SIZE, seed=config.seed)
        model.save_pretrained(out / "random")
        processor.save_pretrained(out / "random")
    shutil.rmtree(checkpoint, ignore_errors=True)
    shutil.copytree(run(config), checkpoint)


def words_of(sample: Sample, config: TrainConfig) -> list[str]:
    """What a sample asks and how it is answered; coordinates are left to the plain numbers of the vocabulary."""
    prompts = [text for message in sample.prompt for text in texts_of(message["content"])]
    row = {"id": sample.id, "task": sample.task, "answer": sample.answer, "media": sample.media, "meta": sample.meta}
    side = 64
    return [*prompts, rendered(row, config.space, [(side, side)] * len(sample.media))]


if __name__ == "__main__":
    with reported("python -m mmrl.demo.warm"):
        typer.run(main)
