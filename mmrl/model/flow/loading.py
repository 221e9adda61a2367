"""Pipelines that make pictures: read from a directory, checked, and given adapters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.model.flow.kontext import KontextPolicy
from mmrl.model.flow.pictures import condition_of, row_of
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.process import at
from mmrl.model.flow.qwen_image_edit import QwenImageEditPolicy
from mmrl.model.flow.stable_diffusion_3 import StableDiffusion3Policy
from mmrl.model.flow.wan import WanPolicy
from mmrl.model.loading import INDEX, is_pipeline
from mmrl.model.policy import LoraSettings

POLICIES: dict[str, type[PicturePolicy]] = {
    policy.PIPELINE: policy for policy in (KontextPolicy, QwenImageEditPolicy, StableDiffusion3Policy, WanPolicy)
}


def policy_of(path: Path) -> type[PicturePolicy]:
    """The kind of policy that the pipeline in `path` is; InputError for another pipeline, or none."""
    if not is_pipeline(path):
        raise InputError(f"no {INDEX} in {path}; an editor is a pipeline of diffusers: pipeline.save_pretrained(...)")
    name = json.loads((path / INDEX).read_text(encoding="utf-8")).get("_class_name")
    if name not in POLICIES:
        raise InputError(f"{path} holds a {name}; must be a {', '.join(POLICIES)}")
    return POLICIES[name]


def check_editor(path: Path) -> int:
    """The number of pixels of which the sides of pictures are multiples; InputError unless there is a pipeline of
    POLICIES in `path`. Loads no weights."""
    policy = policy_of(path)
    try:
        return policy.multiple_of(json.loads((path / "vae" / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the VAE of {path} has no config that tells its levels ({error!r:.100})") from None


def sizes_of(path: Path) -> dict[str, int]:
    """The number of weights of each part of a pipeline, from the heads of its files."""
    counts: dict[str, int] = {}
    for file in sorted(path.glob("*/*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            names = weights.keys()
            count = sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
        counts[file.parent.name] = counts.get(file.parent.name, 0) + count
    return counts


def load_editor(path: Path, *, dtype: str = "float32", **settings: Any) -> PicturePolicy:
    """The policy of the pipeline in `path`, with `settings` of PicturePolicy; InputError for anything else, or one with
    damaged weights."""
    import diffusers

    check_editor(path)
    policy = policy_of(path)

    library: Any = diffusers  # its classes are loaded by name
    try:
        pipeline = getattr(library, policy.PIPELINE).from_pretrained(
            path, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise InputError(f"the pipeline in {path} cannot be loaded: {str(error).partition(chr(10))[0]:.300}") from None
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(part is pipeline.transformer).eval()
    return policy(pipeline, **settings)


def adapted_editor(policy: PicturePolicy, lora: LoraSettings | None) -> None:
    """Put LoRA adapters, which alone are trained then, on the linear layers of the network; None puts none."""
    if lora is None:
        return
    from peft import LoraConfig

    network = policy.transformer
    every = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    targets = every if lora.target_modules == "all-linear" else lora.target_modules
    try:
        network.add_adapter(
            LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
        )
    except ValueError as error:
        raise InputError(f"lora: {error}") from None


def check_finite(policy: PicturePolicy, sample: Sample) -> None:
    """InputError for a VAE or text encoders that give NaN for a sample."""
    condition = condition_of(policy, [row_of(sample)])
    noise = policy.noise(condition, torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = policy.decoded(noise, condition)
    for part, values in [*policy.encoded(condition).items(), ("vae", decoded)]:
        if not values.isfinite().all():
            raise InputError(f"the {part} of the model gives NaN for sample {sample.id}; use whole weights, or float32")


@torch.no_grad()
def velocity_of(policy: PicturePolicy, sample: Sample) -> Tensor:
    """[1, S, C]: the velocity halfway to an edit of a sample, on the CPU."""
    condition = condition_of(policy, [row_of(sample)])
    noise = policy.noise(condition, torch.Generator().manual_seed(0))
    return policy.velocity(noise, at(0.5, noise), condition).float().cpu()
