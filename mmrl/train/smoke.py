"""`mmrl train CONFIG --smoke`: the same run in miniature, with a tiny random twin of the model, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.core.messages import texts_of
from mmrl.train.config import TrainConfig, form_of

_LEFT_OUT = ("deepspeed", "fsdp", "fsdp_config", "generation_batch_size", "steps_per_generation", "num_train_epochs")
_SMALL = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no", "report_to": "none"}
_SMALL |= {"eval_on_start": False, "push_to_hub": False}
_ON_CPU = {"use_cpu": True, "bf16": False, "fp16": False, "tf32": None}


def miniature(config: TrainConfig, directory: Path) -> TrainConfig:
    """`config` with a tiny random twin of its model, 16 samples and two steps of each stage, in `directory`.

    Prompts, rewards, estimator, vision budget, frozen parts and adapters stay. The twin has the patches and the chat
    template of the model, and its own tokenizer.
    """
    from mmrl.advantages import options_of
    from mmrl.model.loading import load_processor, local
    from mmrl.model.tiny_twins import ARCHITECTURES, TinySize, tiny_model
    from mmrl.trainers.dataset import training_samples

    architecture, geometry = _shape(local(config.model))
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"no tiny twin of a {architecture} ({config.model}) to smoke-test with; known: {known}")
    samples = list(training_samples(config.data, config.split, 16))
    texts = [text for sample in samples for message in sample.prompt for text in texts_of(message["content"])]
    texts += form_of(config).texts()
    model, processor = tiny_model(architecture, texts, size=TinySize(**geometry), seed=config.seed)
    processor.chat_template = load_processor(local(config.model)).chat_template
    for part in (model, processor):
        part.save_pretrained(directory / "model")
    sft = None if config.sft is None else _small(config.sft, 2)
    blocks = {"sft": sft, "grpo": None if config.grpo is None else _small_grpo(config.grpo, len(samples))}
    limit = (
        config.limit if "pairs_P" in options_of(config.advantages.name) else 16
    )  # a limit could separate the sides of a pair
    changed = {"model": str(directory / "model"), "output": str(directory / "run"), "limit": limit, "dtype": "float32"}
    changed |= {"attention": None, "evaluation": None}
    changed |= {"rollout": config.rollout.model_copy(update={"engine": "local", "vllm": None, "ahead": 0})}
    return config.model_copy(update=changed | blocks)


def _shape(path: Path) -> tuple[str, dict[str, int]]:
    """The model type of a checkpoint and the vision settings that decide how many tokens an image becomes."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    vision = getattr(config, "vision_config", None)
    named = {"patch": getattr(vision, "patch_size", None), "merge": getattr(vision, "spatial_merge_size", None)}
    return config.model_type, {key: value for key, value in named.items() if value is not None}


def _small(block: dict[str, Any], batch: int) -> dict[str, Any]:
    kept = {key: value for key, value in block.items() if key not in _LEFT_OUT}
    accumulated = min(int(kept.get("gradient_accumulation_steps", 1)), 2)
    return kept | _SMALL | _ON_CPU | {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}


def _small_grpo(block: dict[str, Any], samples: int) -> dict[str, Any]:
    """A generation of up to four prompts, fewer where there are fewer samples."""
    group = min(int(block.get("num_generations", 8)), 4)
    length = min(int(block.get("max_completion_length", 256)), 16)
    small = _small(block, min(samples, 2) * group)
    if samples < 4:
        small["gradient_accumulation_steps"] = 1
    return small | {"num_generations": group, "max_completion_length": length}
