"""`mmrl train CONFIG --plan`: what a run would do and need, without loading a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.train.config import TrainConfig, arguments_of, makes_pictures, makes_rollouts, stages_of

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
Table = tuple[str, list[tuple[str, str]]]


def batch_arithmetic(
    *,
    processes: int,
    per_device: int,
    accumulation: int,
    per_generation: int,
    group: int,
    prompts: int,
    steps: int,
    iterations: int = 1,
) -> dict[str, int]:
    """How rollouts become optimizer steps; `per_generation` counts micro-batches, as TRL's steps_per_generation.

    >>> numbers = batch_arithmetic(
    ...     processes=2, per_device=8, accumulation=2, per_generation=4, group=8, prompts=100, steps=50
    ... )
    >>> numbers["rollouts a step"], numbers["prompts a generation"], numbers["optimizer steps a generation"]
    (32, 8, 2)
    """
    rollouts = processes * per_device * accumulation
    generated = processes * per_device * per_generation
    return {
        "processes": processes,
        "rollouts a step": rollouts,
        "rollouts a generation": generated,
        "prompts a generation": generated // group,
        "optimizer steps a generation": per_generation // accumulation * iterations,
        "optimizer steps": steps,
        "rollouts in all": rollouts * steps // iterations,
        "prompts in the data": prompts,
    }


def memory(
    table: Iterable[Mapping[str, Any]], dtype: str, *, reference: bool, stage: int, processes: int
) -> dict[str, float]:
    """GiB a process needs for what does not depend on the batch: weights, gradients and Adam's two moments.

    ZeRO-2 divides gradients and moments among the processes, ZeRO-3 and FSDP2 the weights too (Rajbhandari et al.,
    1910.02054). Activations, the cache of the rollouts and the allocator's slack come on top.
    """
    if dtype not in BYTES:
        raise InputError(f"dtype={dtype!r} has no known size; known: {', '.join(BYTES)}")
    rows = list(table)
    weights = sum(row["parameters"] for row in rows) * BYTES[dtype] / 2**30
    trained = sum(row["trainable"] for row in rows) * BYTES[dtype] / 2**30
    share = {"weights": processes if stage >= 3 else 1, "rest": processes if stage >= 2 else 1}
    parts = {
        "weights": weights / share["weights"],
        "reference model": weights / share["weights"] * reference,
        "gradients": trained / share["rest"],
        "Adam's moments": 2 * trained / share["rest"],
    }
    return parts | {"in all, without activations": sum(parts.values())}


def plan(config: TrainConfig, processes: int = 1) -> list[Table]:
    """Titled tables of what `mmrl train` would do with `config` on that many processes: batch, parameters, memory,
    rewards by task."""
    from mmrl.model.policy import trainable_table
    from mmrl.train.samples import stage_samples

    if makes_pictures(config):
        return _of_pictures(config, processes)
    parameters = trainable_table(_skeleton(config))
    counts = [(row["part"], f"{row['parameters']:,} ({row['trainable']:,} train)") for row in parameters]
    tables: list[Table] = [("parameters", counts)]
    for stage in stages_of(config):
        tables += _stage(config, stage, parameters, len(stage_samples(config, stage)), processes)
    if makes_rollouts(config):
        tables += _rewards(config, stage_samples(config, "grpo"))
    calling = config.rollout.tools and {"sft", "grpo"} & {*stages_of(config)}
    return [*tables, ("tools", _tools(config))] if calling else tables


def _rewards(config: TrainConfig, samples: Sequence[Sample]) -> list[Table]:
    """What scores each task, and which judges answer."""
    from rewards import Suite

    suite = Suite(config.rewards, judges=config.judges)
    tasks = sorted({sample.task for sample in samples})
    suite.check_tasks(tasks)
    counts = {task: sum(sample.task == task for sample in samples) for task in tasks}
    scored = suite.tasks_scored(tasks)
    tables: list[Table] = [
        ("rewards by task", [(f"{task} ({counts[task]})", ", ".join(scored[task])) for task in tasks])
    ]
    told = {name: f"does not answer: {cause}" for name, cause in suite.unreached_judges().items()}
    judges = {**dict.fromkeys(suite.judges, "answers"), **told}
    return [*tables, *([("judges", list(judges.items()))] if judges else [])]


def _of_pictures(config: TrainConfig, processes: int) -> list[Table]:
    """The same of a pipeline that makes pictures, from the heads of its files."""
    from mmrl.flow.algorithms import algorithm_of
    from mmrl.flow.algorithms.consistency import Consistency
    from mmrl.model.flow.loading import sizes_of
    from mmrl.model.loading import local
    from mmrl.trainers.dataset import training_samples

    samples = training_samples(config.data, config.split, config.limit, config.task)
    sizes = sizes_of(local(config.model))
    shown = {part: f"{count:,}{' (train)' if part == 'transformer' else ''}" for part, count in sizes.items()}
    tables: list[Table] = [("parameters", list(shown.items()))]
    for stage in stages_of(config):
        args = arguments_of(config, stage)
        prompts = processes * args.per_device_train_batch_size * args.gradient_accumulation_steps
        rows = {"processes": processes, "prompts a step": prompts, "prompts in the data": len(samples)}
        rows["optimizer steps"] = _steps(args, math.ceil(len(samples) / prompts))
        if stage == "flow":
            algorithm = algorithm_of(args.algorithm, args.options)
            if isinstance(algorithm, Consistency):
                rows["noised pictures a step"] = prompts * algorithm.times
            else:
                rows["pictures a step"] = prompts * args.num_generations
                rows["weights of frozen copies"] = len(algorithm.copies) * sizes.get("transformer", 0)
        tables.append((f"{stage}: batch", [(name, f"{value:,}") for name, value in rows.items()]))
    return tables if config.flow is None else [*tables, *_rewards(config, samples)]


def _stage(
    config: TrainConfig, stage: str, parameters: list[dict[str, Any]], prompts: int, processes: int
) -> list[Table]:
    from mmrl.grpo.config_checks import check_filled

    args = arguments_of(config, stage)
    if stage == "latent":
        frozen = [{**row, "trainable": 0} for row in parameters]
        needs = memory(frozen, config.dtype, reference=False, stage=0, processes=processes)
        return _tables(stage, _thoughts(args, prompts, processes), needs)
    group = args.num_generations if stage == "grpo" else 1
    per_generation = args.steps_per_generation if stage == "grpo" else args.gradient_accumulation_steps
    iterations = args.num_iterations if stage == "grpo" else 1
    rows, accumulation = processes * args.per_device_train_batch_size, args.gradient_accumulation_steps
    if stage == "grpo":  # a generation that is not full is left out
        check_filled(prompts, rows * per_generation // group)
        an_epoch = prompts * group // (rows * per_generation) * (per_generation // accumulation) * iterations
    else:
        an_epoch = math.ceil(math.ceil(prompts / rows) / accumulation)
    steps = _steps(args, an_epoch)
    numbers = batch_arithmetic(
        processes=processes,
        per_device=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        per_generation=per_generation,
        group=group,
        prompts=prompts,
        steps=steps,
        iterations=iterations,
    )
    if stage == "grpo" and config.rollout.tree is not None:
        numbers["rollouts of a group drawn whole"] = group // config.rollout.tree.size
    reference = config.lora is None and _has_reference(stage, args)
    needs = memory(parameters, config.dtype, reference=reference, stage=sharding_stage(args), processes=processes)
    return _tables(stage, numbers, needs)


def _tables(stage: str, numbers: Mapping[str, int], needs: Mapping[str, float]) -> list[Table]:
    return [
        (f"{stage}: batch", [(name, f"{value:,}") for name, value in numbers.items()]),
        (f"{stage}: memory of a process", [(name, f"{value:.3f} GiB") for name, value in needs.items()]),
    ]


def _thoughts(args: Any, prompts: int, processes: int) -> dict[str, int]:
    """What is drawn and answered in a step of the stage `latent`."""
    asked = processes * args.per_device_train_batch_size * args.gradient_accumulation_steps
    return {
        "processes": processes,
        "prompts a step": asked,
        "thoughts a step": asked * (args.draws or args.num_generations),
        "answers a step": asked * args.num_generations,
        "optimizer steps": _steps(args, math.ceil(prompts / asked)),
        "prompts in the data": prompts,
    }


def _steps(args: Any, an_epoch: int) -> int:
    """Optimizer steps in all."""
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * an_epoch)


def _tools(config: TrainConfig) -> list[tuple[str, str]]:
    """What the policy may call, how it is told of it, and what turns mean for shared prompts."""
    from mmrl.tools.registry import tools_of

    settings, tokens = config.rollout, ""
    if config.grpo is not None:
        tokens = f", of {arguments_of(config, 'grpo').max_completion_length} tokens with the results among them"
    parameters = {
        name: ", ".join(tool.schema["function"]["parameters"]["properties"])
        for name, tool in tools_of(settings.tools).items()
    }
    return [
        *parameters.items(),
        ("turns", f"at most {settings.max_turns}{tokens}"),
        ("a call", f"at most {settings.tool_seconds:g} seconds"),
        *([("documents", settings.search_in)] if settings.search_in else []),
        ("in the prompt", _told(config)),
        (
            "shared prompts",
            "read once per group when scoring, as without tools; each later turn reads its rollout anew",
        ),
    ]


def _told(config: TrainConfig) -> str:
    """How the prompt tells the model of its tools."""
    from trl.chat_template_utils import supports_tool_calling

    from mmrl.model.loading import load_processor, local

    if config.rollout.told is not None:
        return repr(config.rollout.told)
    native = supports_tool_calling(load_processor(local(config.model)))
    return "by the chat template" if native else "in words, its chat template does not write tools"


def _has_reference(stage: str, args: Any) -> bool:
    """Whether a stage keeps a second model in memory, if the first has no adapters to switch off."""
    return not args.precompute_ref_log_probs if stage == "dpo" else stage == "grpo" and args.beta > 0


def sharding_stage(args: Any) -> int:
    """The ZeRO stage of the arguments' DeepSpeed config (a file, a dict, or none); FSDP2 divides as stage 3 does."""
    import json

    if args.fsdp:
        return 3
    deepspeed = args.deepspeed
    values = json.loads(Path(deepspeed).read_text()) if isinstance(deepspeed, str) else deepspeed or {}
    return int(values.get("zero_optimization", {}).get("stage", 0))


def _skeleton(config: TrainConfig) -> Any:
    """The policy of `config` without its weights."""
    from mmrl.model.loading import check_architecture, local, skeleton
    from mmrl.model.policy import adapted, check_attention

    path = local(config.model)
    check_architecture(path)
    if config.attention is not None:
        check_attention(config.attention)
    if stages_of(config) == ["latent"]:
        return skeleton(path).requires_grad_(False)
    return adapted(skeleton(path), frozen=config.freeze, lora=config.lora)
