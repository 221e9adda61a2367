"""The policy: a vision-language model and its processor from a path, with frozen parts or LoRA adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mmrl.core.config import Config, InputError
from mmrl.core.families import Part, family_of
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.loading import load_checkpoint, local


class LoraSettings(Config):
    """Low-rank adapters (PEFT) on all linear layers of the parts that are not frozen, or on `target_modules`."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: list[str] | str = "all-linear"


def load_policy(
    model: str | Path, budget: VisionBudget, *, dtype: str = "float32", attention: str | None = None
) -> tuple[Any, Any]:
    """The model and the processor at `model` (a directory, or a hub id if there is a network), under `budget`.

    `attention` is the implementation that transformers uses, by default its own choice.
    """
    unset_hf_deepspeed_config()  # of an earlier stage: weights loaded in shards are saved under wrong names
    policy, processor = load_checkpoint(local(model), dtype=dtype)
    apply_budget(processor, budget)
    if attention is not None:
        try:
            policy.set_attn_implementation(attention)
        except (ImportError, ValueError) as error:
            raise InputError(f"attention={attention!r}: {error}") from None
    return policy, processor


def core(model: Any) -> Any:
    """`model` without its language head and without adapters: the module that makes multimodal positions."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base, "model", base)


def freeze(model: Any, frozen: Sequence[Part]) -> None:
    """Stop training the given parts."""
    part_of = family_of(model.config).part_of
    for name, parameter in model.named_parameters():
        if part_of(name) in frozen:
            parameter.requires_grad_(False)


def trainable_table(model: Any) -> list[dict[str, Any]]:
    """Per part: parameters and how many of them train."""
    part_of = family_of(model.config).part_of
    rows = {part: {"part": part, "parameters": 0, "trainable": 0} for part in ("vision", "projector", "language")}
    for name, parameter in model.named_parameters():
        rows[part_of(name)]["parameters"] += parameter.numel()
        rows[part_of(name)]["trainable"] += parameter.numel() * parameter.requires_grad
    return list(rows.values())


def adapted(model: Any, *, frozen: Sequence[Part] = (), lora: LoraSettings | None = None) -> Any:
    """`model` with the given parts frozen, or with LoRA adapters outside of those parts, which alone are trained."""
    if lora is None:
        freeze(model, frozen)
        return model
    from peft import LoraConfig, get_peft_model

    part_of = family_of(model.config).part_of
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
        exclude_modules=[name for name, _ in model.named_modules() if name and part_of(name) in frozen] or None,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora: {error}") from None
