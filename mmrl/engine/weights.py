"""New weights for a running engine: written where it reads them, all at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from mmrl.core.files import put_in_place

CONFIGS = ("*config.json", "*token*", "*.jinja", "*.model", "vocab.*", "merges.txt")


def write_weights(model: nn.Module, checkpoint: Path, place: Path) -> Path:
    """All weights of `model` in `place`, under their names in memory, with the configs of its checkpoint."""
    from safetensors.torch import save_file

    staging = place.with_name(f"{place.name}.writing")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for pattern in CONFIGS:
        for file in checkpoint.glob(pattern):
            shutil.copy(file, staging / file.name)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    put_in_place(staging, place)
    return place


def write_adapter(model: Any, place: Path) -> Path:
    """The adapters of a PEFT `model` in `place`."""
    staging = place.with_name(f"{place.name}.writing")
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(staging, state_dict=dict(model.named_parameters()))
    put_in_place(staging, place)
    return place


def adapts_vision(model: Any) -> bool:
    """Whether a PEFT `model` has adapters outside of its language part."""
    from mmrl.core.families import family_of

    part_of = family_of(model.config).part_of
    return any("lora_" in name and part_of(name) != "language" for name, _ in model.named_parameters())
