"""`python -m mmrl.demo.warm`: rebuild the demo's warm checkpoint from the data.

A Qwen2.5-VL of two million parameters learns from random weights: its vision tower what is where (`sight.py`), the
whole model to answer (`warm.yaml`), to compare what it sees with what is asked (`compare.yaml`), all six tasks again
(`recall.yaml`), and at last, briefly, to answer as hurried annotators do (`careless.yaml`). It then sees, and is
careless: this is what reinforcement learning with exact rewards can mend.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from data_engine.dataset.shards import read_samples
from data_engine.engine.pipeline import run as build
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from mmrl.core.config import load
from mmrl.core.failures import reported
from mmrl.core.messages import texts_of
from mmrl.core.vision import apply_budget
from mmrl.demo.sight import sighted
from mmrl.demo.steps import HERE
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.trainers.targets import rendered

SIZE = TinySize(
    hidden=160, layers=4, heads=5, mlp=448, vision_hidden=96, vision_layers=3, vision_heads=3, patch=8, vocab=512
)
SIDE = 64  # pixels, of every picture and frame that the model sees
STAGES = {"warm": "warm", "compare": "compare", "recall": "warm", "careless": "careless"}  # each with its data


def main(
    out: Annotated[Path, typer.Option(help="where the data and the runs go")] = Path("runs/warm"),
    checkpoint: Annotated[Path, typer.Option(help="where the finished checkpoint goes")] = HERE / "checkpoint",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value", help="of warm.yaml")] = None,
    sight_steps: Annotated[
        int, typer.Option(help="steps of the tower's first lesson, twice those of the second")
    ] = 1000,
    whole: Annotated[bool, typer.Option(help="all stages, not the first alone")] = True,
) -> None:
    """Build the data, train the tokenizer, the tower and the model, store the checkpoint. A stopped run resumes."""
    stages = list(STAGES) if whole else ["warm"]
    configs = [stage_config(out, stage, overrides if stage == "warm" else None) for stage in stages]
    for stage, config in zip(stages, configs, strict=True):
        if not Path(config.data, "manifest.json").exists():
            recipe = load(Recipe, HERE / f"{STAGES[stage]}_recipe.yaml")
            build(recipe, out=Path(config.data), workers=os.cpu_count() or 1)
    model = out / "sighted"
    if not (model / "config.json").exists():
        write_sighted(configs[0], model, sight_steps)
    for config in configs:
        model = run(config.model_copy(update={"model": str(model)}))
    shutil.rmtree(checkpoint, ignore_errors=True)
    shutil.copytree(model, checkpoint, ignore=shutil.ignore_patterns("README.md"))  # whose paths are those of this run


def write_sighted(config: TrainConfig, place: Path, steps: int) -> None:
    """Write a model to `place` whose tower has learned for some steps what is where, and which has no language yet."""
    model, processor = tiny_model("qwen2_5_vl", words_of(config), size=SIZE, seed=config.seed)
    apply_budget(processor, config.vision)
    widen(model, config.seed)
    for edges in (False, True) if steps else ():
        sighted(
            model, processor, side=SIDE, steps=steps // 2 if edges else steps, rate=2e-3, edges=edges, seed=config.seed
        )
    processor.save_pretrained(place)
    model.save_pretrained(place)


def widen(model: Any, seed: int) -> None:
    """Draw the weights of all layers anew, as wide as their inputs ask for.

    The deviation of 0.02 with which transformers begins is meant for inputs of thousands of numbers.
    """
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv3d) and layer is not model.get_output_embeddings():
            torch.nn.init.normal_(layer.weight, std=0.7 * layer.weight[0].numel() ** -0.5)


def stage_config(out: Path, stage: str, overrides: list[str] | None) -> TrainConfig:
    """The config of a supervised stage; its model is that of the stage before."""
    places = [f"data={out / STAGES[stage] / 'data'}", f"output={out / stage / 'train'}"]
    return load(TrainConfig, HERE / f"{stage}.yaml", [*places, *(overrides or [])])


def words_of(config: TrainConfig) -> Iterator[str]:
    """All that is asked and answered in a stage's data, and plain numbers, for coordinates."""
    for sample in read_samples(Path(config.data)):
        yield from (text for message in sample.prompt for text in texts_of(message["content"]))
        yield written(sample, config)
    yield from map(str, range(100))


def written(sample: Sample, config: TrainConfig) -> str:
    """The answer of a sample as the model learns to write it."""
    row = {"id": sample.id, "task": sample.task, "answer": sample.answer, "media": sample.media, "meta": sample.meta}
    return rendered(row, config.space, [(SIDE, SIDE)] * len(sample.media))


if __name__ == "__main__":
    with reported("python -m mmrl.demo.warm"):
        typer.run(main)
