"""`python -m mmrl.demo.editor.warm`: rebuild the warm checkpoint of `mmrl demo edit` from the data.

A Flux Kontext twin of 0.9 million weights. Its VAE learns to give pictures back. Its transformer learns to edit, from
edits of which two in five are right. It then does one of four things, and reinforcement learning picks the right one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from data_engine.dataset.shards import read_samples
from data_engine.engine.pipeline import run as build
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from data_engine.sources.editing.edit_pairs import CHANGES, PLACES
from mmrl.core.config import load
from mmrl.core.failures import reported
from mmrl.core.media.image import load_image
from mmrl.demo.editor.steps import CHECKPOINT, HERE
from mmrl.model.tiny_editors import tiny_kontext
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run

TEXT_TOKENS = 10  # of the longest instruction, with those that begin and end it
CHANNELS = 12  # of a latent, which has half the sides of its picture: as many numbers as the picture


def main(
    out: Annotated[Path, typer.Option(help="where the data and the run go")] = Path("runs/warm_editor"),
    checkpoint: Annotated[Path, typer.Option(help="where the finished checkpoint goes")] = CHECKPOINT,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value", help="of warm.yaml")] = None,
    vae_steps: Annotated[int, typer.Option(help="steps in which the VAE learns")] = 1500,
) -> None:
    """Build the data, train the VAE and the transformer, store the checkpoint. A stopped run resumes."""
    places = [f"model={out / 'untaught'}", f"data={out / 'data'}", f"output={out / 'train'}"]
    config = load(TrainConfig, HERE / "warm.yaml", [*places, *(overrides or [])])
    if not Path(config.data, "manifest.json").exists():
        build(load(Recipe, HERE / "warm_recipe.yaml"), out=Path(config.data), workers=os.cpu_count() or 1)
    if not (Path(config.model) / "model_index.json").exists():
        pipeline = tiny_kontext(
            [asked.format(place=place) for asked, _ in CHANGES.values() for place in PLACES],
            heads=4, text_tokens=TEXT_TOKENS, light=CHANNELS, seed=config.seed,
        )  # fmt: skip
        gap = taught(pipeline.vae, list(read_samples(Path(config.data))), vae_steps, seed=config.seed)
        typer.echo(f"the VAE gives pictures back with a mean difference of {gap:.3f} (of a range of 2)")
        pipeline.save_pretrained(config.model)
    final = run(config)
    shutil.rmtree(checkpoint, ignore_errors=True)
    shutil.copytree(final, checkpoint, ignore=shutil.ignore_patterns("README.md"))


def taught(vae: Any, samples: Sequence[Sample], steps: int, *, seed: int, batch: int = 64) -> float:
    """Train a VAE on the pictures of samples until latents have a deviation of 1; the mean difference that is left."""
    shown = np.stack([np.asarray(load_image(media)) for sample in samples for media in sample.media])
    pictures = torch.from_numpy(shown).float().permute(0, 3, 1, 2) / 127.5 - 1
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    vae.train()
    for _ in range(steps):
        some = pictures[torch.randint(len(pictures), (batch,), generator=draws)]
        optimizer.zero_grad()
        back = vae.decode(vae.encode(some).latents).sample  # its forward rounds latents to bytes, without a gradient
        (back - some).square().mean().backward()
        optimizer.step()
        schedule.step()
    vae.eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latents for part in pictures.split(500)])
        vae.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))
        return float((vae.decode(latents[:500]).sample - pictures[:500]).abs().mean())


if __name__ == "__main__":
    with reported("python -m mmrl.demo.editor.warm"):
        typer.run(main)
