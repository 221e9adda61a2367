"""The policy: a vision-language model and its processor from a path, with frozen parts or LoRA adapters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mmrl.core.config import Config, InputError, nearest
from mmrl.core.families import Part, family_of
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.loading import load_checkpoint, local

logger = logging.getLogger(__name__)


class LoraSettings(Config):
    """Low-rank adapters (PEFT) on all linear layers of the parts that are not frozen, or on `target_modules`.

    Experts whose weights are one parameter for all are no linear layers: `target_parameters` names them, for instance
    `mlp.experts.gate_up_proj`.
    """

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: list[str] | str = "all-linear"
    target_parameters: list[str] | None = None


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
        check_attention(attention)
        try:
            policy.set_attn_implementation(attention)
        except (ImportError, ValueError) as error:
            raise InputError(f"attention={attention!r}: {error}") from None
    return policy, processor


def check_attention(name: str) -> None:
    """Refuse an implementation that transformers does not have itself: `org/name` would fetch a kernel from the hub and
    run it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = {"eager", *(each for each in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in each)}
    if name not in known:
        raise InputError(f"attention={name!r} is no implementation of transformers' own; {nearest(name, known)}")


def freeze(model: Any, frozen: Sequence[Part]) -> None:
    """Stop training the given parts; a part that has no parameters is an InputError."""
    part_of, empty = family_of(model.config).part_of, set(frozen)
    for name, parameter in model.named_parameters():
        if part_of(name) in frozen:
            empty.discard(part_of(name))
            parameter.requires_grad_(False)
    if empty:
        raise InputError(
            f"freeze: {model.config.model_type} has no parameters that are known as {' or '.join(sorted(empty))}; name "
            "them in mmrl/core/families.py, or leave the part out"
        )


def trainable_table(model: Any) -> list[dict[str, Any]]:
    """Per part: parameters and how many of them train."""
    part_of = family_of(model.config).part_of
    rows = {part: {"part": part, "parameters": 0, "trainable": 0} for part in ("vision", "projector", "language")}
    for name, parameter in model.named_parameters():
        rows[part_of(name)]["parameters"] += parameter.numel()
        rows[part_of(name)]["trainable"] += parameter.numel() * parameter.requires_grad
    return list(rows.values())


def adapted(
    model: Any, *, frozen: Sequence[Part] = (), lora: LoraSettings | None = None, task: str = "CAUSAL_LM"
) -> Any:
    """`model` with the given parts frozen, or with LoRA adapters outside of those parts, which alone are trained.

    `task` is PEFT's; with SEQ_CLS and TOKEN_CLS the head `score` is trained as well.
    """
    freeze(model, frozen)
    if lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    part_of = family_of(model.config).part_of
    _tell_experts(model, frozen, lora)

    def outside(name: str) -> bool:  # of the adapters: a head of two layers is trained as it is
        return part_of(name) in frozen or name.startswith("score.")

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        target_parameters=lora.target_parameters,
        task_type=task,
        exclude_modules=[name for name, _ in model.named_modules() if name and outside(name)] or None,
    )
    shared = _shared_weights(model)
    try:
        made = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora: {error}") from None
    _refuse_shared(made, shared)
    return made


def _tell_experts(model: Any, frozen: Sequence[Part], lora: LoraSettings) -> None:
    """Say which weights no adapter reaches: those of experts are not in linear layers."""
    part_of, named = family_of(model.config).part_of, tuple(lora.target_parameters or ())
    left = {
        name: weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() == 3 and ".experts." in name and part_of(name) not in frozen and not name.endswith(named or "-")
    }
    if left:
        kinds = sorted({".".join(name.split(".")[-3:]) for name in left})
        logger.warning(
            "lora: no adapters on the experts (%s parameters); to adapt them: lora.target_parameters=[%s]",
            f"{sum(left.values()):,}",
            ", ".join(kinds),
        )


def _shared_weights(model: Any) -> set[int]:
    """The weights that are both the embeddings and the language head."""
    head = model.get_output_embeddings()
    embeddings = model.get_input_embeddings().weight
    return {id(embeddings)} if head is not None and head.weight is embeddings else set()


def _refuse_shared(model: Any, shared: set[int]) -> None:
    """Refuse adapters on one use of a shared weight: they learn there, and are merged into the other use too."""
    for name, module in model.named_modules():
        base = getattr(module, "base_layer", None)
        if base is not None and id(getattr(base, "weight", None)) in shared:
            name = name.removeprefix("base_model.model.")
            raise InputError(
                f"lora.target_modules reaches {name}, whose weights are also those of the other end of the model (tied "
                "embeddings): a merged adapter would change both; leave it out"
            )
