"""`mmrl train CONFIG --smoke`: the same run in miniature, with a tiny random twin of the model, on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from mmrl.core.config import InputError, RunError
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from mmrl.core.messages import texts_of
from mmrl.train.chosen_samples import kind_of, spread, spread_preferences
from mmrl.train.config import (
    FOLDERS,
    PREFERRING,
    ROLLING,
    Preferences,
    TrainConfig,
    form_of,
    makes_pictures,
    makes_rollouts,
    stages_of,
)
from mmrl.train.samples import split_of, stage_samples
from mmrl.trainers.dataset import training_samples
from rewards import RewardSpec

_LEFT_OUT = ("deepspeed", "fsdp", "fsdp_config", "generation_batch_size", "steps_per_generation", "num_train_epochs")
_SMALL = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no", "report_to": "none"}
_SMALL |= {"eval_on_start": False, "push_to_hub": False}
_ON_CPU = {"use_cpu": True, "bf16": False, "fp16": False, "tf32": None}


def miniature(config: TrainConfig, directory: Path) -> TrainConfig:
    """`config` with a tiny random twin of its model, a few samples of every kind and two steps of each stage, in
    `directory`.

    Prompts, rewards, estimator, vision budget, frozen parts and adapters stay. The twin has the patches and the chat
    template of the model, and its own tokenizer.
    """
    if makes_pictures(config):
        return _of_pictures(config, directory)
    from mmrl.advantages import options_of
    from mmrl.model.loading import load_processor, local
    from mmrl.model.tiny_twins import ARCHITECTURES, TinySize, tiny_model

    architecture, geometry = _shape(local(config.model))
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"no tiny twin of a {architecture} ({config.model}) to smoke-test with; known: {known}")
    paired = "pairs_P" in options_of(config.advantages.name)  # a choice could separate the sides of a pair
    samples = training_samples(config.data, config.split, 16 if paired else config.limit, config.task)
    if not paired:
        samples, _ = spread(samples)
        write_dataset(samples, directory / "data")
    preferred, _ = spread_preferences(_preferred(config))
    if preferred:
        write_dataset(preferred, directory / "preferences")
    shown = [*samples, *preferred]
    texts = [text for sample in shown for message in sample.prompt for text in texts_of(message["content"])]
    texts += form_of(config).texts()
    model, processor = tiny_model(architecture, texts, size=TinySize(**geometry), seed=config.seed)
    processor.chat_template = load_processor(local(config.model)).chat_template
    for part in (model, processor):
        part.save_pretrained(directory / "model")
    count = len(samples)
    sft = None if config.sft is None else _small(config.sft, min(count, 2), count)
    blocks: dict[str, Any] = {"sft": sft, "grpo": None if config.grpo is None else _small_grpo(config, count)}
    if config.latent is not None:
        length = min(int(config.latent.get("max_completion_length", 256)), 16)
        few = {"num_generations": 2, "draws": 0, "max_completion_length": length}
        blocks["latent"] = _small(config.latent, min(count, 2), count) | few
    for stage in PREFERRING:
        if (block := getattr(config, stage)) is not None:
            blocks[stage] = _small(block, min(len(preferred), 2), len(preferred))
            place = {"path": str(directory / "preferences"), "limit": None, "split": split_of(config, stage).split}
            blocks["preferences"] = (config.preferences or Preferences(path="")).model_copy(update=place)
    changed = {"model": str(directory / "model"), "output": str(directory / "run"), "dtype": "float32"}
    changed |= {} if paired else {"data": str(directory / "data"), "limit": None, "prompt": form_of(config)}
    changed |= {"head": config.head.model_copy(update={"held_out": None})}
    changed |= {"attention": None, "evaluation": None, "rewards": _with_own_labels(config.rewards, directory)}
    changed |= {"rollout": config.rollout.model_copy(update={"engine": "local", "vllm": None, "ahead": 0})}
    return config.model_copy(update=changed | blocks)


def _preferred(config: TrainConfig) -> list[Sample]:
    """The samples whose pairs the stages `reward` and `dpo` of `config` learn from."""
    given, learning = split_of(config, "dpo"), {*stages_of(config)} & {*PREFERRING}
    return training_samples(given.path, given.split, given.limit) if learning else []


def _of_pictures(config: TrainConfig, directory: Path) -> TrainConfig:
    """The miniature of a pipeline that makes pictures: a tiny twin, and pictures of 16 pixels a side."""
    from mmrl.model.flow.loading import policy_of
    from mmrl.model.flow.pictures import instruction_of, row_of
    from mmrl.model.loading import local
    from mmrl.model.tiny_editors import TWINS

    pipeline = policy_of(local(config.model)).PIPELINE
    samples, _ = spread(training_samples(config.data, config.split, config.limit, config.task))
    small = [replace(s, media=tuple(as_media(load_image(m).resize((16, 16))) for m in s.media)) for s in samples]
    write_dataset(small, directory / "data")
    texts = [instruction_of(row_of(sample)) for sample in samples]
    TWINS[pipeline](texts, seed=config.seed).save_pretrained(directory / "model")
    changed = {"model": str(directory / "model"), "output": str(directory / "run"), "dtype": "float32"}
    changed |= {"data": str(directory / "data"), "limit": None, "evaluation": None}
    blocks = {name: _small(getattr(config, name), 2, len(samples)) for name in stages_of(config)}
    if "flow" in blocks:
        group = {"num_generations": 2} if makes_rollouts(config) else {}
        blocks["flow"] |= {**group, "sampling_steps": 2, "side": 16, "frames": 5}
    return config.model_copy(update=changed | blocks)


def _shape(path: Path) -> tuple[str, dict[str, int]]:
    """The model type of a checkpoint and the vision settings that decide how many tokens an image becomes."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    vision = getattr(config, "vision_config", None)
    named = {"patch": getattr(vision, "patch_size", None), "merge": getattr(vision, "spatial_merge_size", None)}
    return config.model_type, {key: value for key, value in named.items() if value is not None}


def tried(config: TrainConfig, small: TrainConfig) -> list[str]:
    """What the smoke test of `config` has tried, a line each; RunError if a reward failed on all that it was asked."""
    asked = {*stages_of(config)} - {*PREFERRING}
    samples = stage_samples(config, "grpo") if asked else []
    (kinds, left_out), (preferred, others) = spread(samples), spread_preferences(_preferred(config))
    kinds, left_out = [*kinds, *preferred], [*left_out, *others]
    lines = [f"tried: {', '.join(sorted({kind_of(sample) for sample in kinds}))}"]
    lines += [f"not tried, there are too many kinds: {', '.join(left_out)}"] if left_out else []
    if not makes_rollouts(config):
        return lines
    places = [Path(small.output, FOLDERS[stage], "rollouts") for stage in stages_of(config) if stage in ROLLING]
    files = [file for place in places for file in sorted(place.iterdir())]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    if config.rollout.tools:
        turns = [turn for row in rows for turn in json.loads(row.get("turns") or "[]")]
        lines.append(f"tools: {sum(len(turn['calls']) for turn in turns)} calls; a random model makes none or few")
    for name in config.rewards:
        verdicts = [(row[f"kind/{name}"], row[f"why/{name}"]) for row in rows]
        failed = [why for kind, why in verdicts if kind == "failed"]
        scored = sum(kind in ("scored", "unparsed") for kind, _ in verdicts)
        if failed and not scored:
            raise RunError(f"reward {name} failed on all {len(failed)} rollouts of the smoke test: {failed[-1]:.300}")
        told = f", {len(failed)} failed" if failed else ""
        lines.append(f"reward {name}: {scored} of {len(rows)} rollouts scored{told}")
    return lines


def _with_own_labels(rewards: Mapping[str, RewardSpec], directory: Path) -> dict[str, RewardSpec]:
    """The rewards, whose students begin in folders below `directory`: those of the run keep their labels."""

    def own(value: Any, place: Path) -> Any:
        if isinstance(value, list):
            return [own(inner, place / str(number)) for number, inner in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        kept = {key: own(inner, place / key) for key, inner in value.items()}
        return kept | {"labels": str(place)} if {"teacher", "labels"} <= value.keys() else kept

    return {
        name: spec.model_copy(update={"args": own(spec.args, directory / "labels" / name)})
        for name, spec in rewards.items()
    }


def _small(block: dict[str, Any], batch: int, samples: int) -> dict[str, Any]:
    """Two steps that show all samples, of two in a micro-batch."""
    kept = {key: value for key, value in block.items() if key not in _LEFT_OUT}
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": max(samples // 4, 1)}
    return kept | _SMALL | _ON_CPU | sizes | {"max_steps": 2 * int(block.get("num_iterations", 1))}


def _small_grpo(config: TrainConfig, samples: int) -> dict[str, Any]:
    """A generation of two prompts for every micro-batch, fewer where there are fewer samples; a group of trees is one
    tree."""
    block, tree = config.grpo or {}, config.rollout.tree
    group = tree.size if tree else min(int(block.get("num_generations", 8)), 4)
    length = min(int(block.get("max_completion_length", 256)), 16)
    small = _small(block, min(samples, 2) * group, samples)
    return small | {"num_generations": group, "max_completion_length": length}
