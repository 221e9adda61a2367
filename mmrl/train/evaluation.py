"""The evaluation that a training config asks for: its full config, and what is refused before a run begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.config import EvalConfig
from eval.generation import Sampling
from eval.sample_sets import DatasetSplit
from mmrl.core.config import InputError, nearest, validate
from mmrl.train.config import Evaluation, TrainConfig, form_of, makes_pictures
from mmrl.trainers.evaluation import REWARD, StepEvaluation, evaluates
from rewards import RewardSpec


def evaluated(config: TrainConfig) -> EvalConfig:
    """The evaluation of a TrainConfig in full."""
    chosen = config.evaluation or Evaluation()
    given = chosen.rewards or config.rewards
    if not given:
        raise InputError("evaluation: no rewards to score with; give evaluation.rewards")
    if makes_pictures(config):
        return _of_pictures(config, chosen, given)
    length = (config.grpo or config.latent or {}).get("max_completion_length", Sampling().max_new_tokens)
    values = {
        "model": config.model,
        "data": chosen.data or DatasetSplit(path=config.data),
        "rewards": given,
        "judges": chosen.judges or config.judges,
        "out": config.output,
        "sampling": chosen.sampling or Sampling(max_new_tokens=length),
        "vision": config.vision,
        "space": config.space,
        "prompt": form_of(config),
        "rollout": config.rollout.tool_settings(),
        "batch_size": chosen.batch_size,
        "max_unjudged": chosen.max_unjudged,
    }
    return validate(EvalConfig, values, where="evaluation")


def _of_pictures(config: TrainConfig, chosen: Evaluation, rewards: Mapping[str, RewardSpec]) -> EvalConfig:
    """The evaluation of a pipeline: pictures are made as those that it learns from, but without noise in the steps."""
    from mmrl.flow.arguments import FlowArguments

    block = config.flow or {}
    made = {
        name: block.get(name, getattr(FlowArguments, name)) for name in ("sampling_steps", "guidance", "side", "frames")
    }
    values = {
        "engine": "flow",
        "model": config.model,
        "data": chosen.data or DatasetSplit(path=config.data),
        "rewards": rewards,
        "judges": chosen.judges or config.judges,
        "out": config.output,
        "sampling": chosen.sampling or Sampling(),
        "flow": {"steps": made.pop("sampling_steps"), **made},
        "batch_size": chosen.batch_size,
        "max_unjudged": chosen.max_unjudged,
    }
    return validate(EvalConfig, values, where="evaluation")


def check_evaluation(config: TrainConfig, stages: Sequence[tuple[str, Any]]) -> None:
    """Refuse an evaluation without a time or without data, and unknown metrics.

    `stages`: the name and TRL's arguments of each stage there is.
    """
    asking = [(name, args) for name, args in stages if evaluates(args)]
    if config.evaluation is None and asking:
        name, args = asking[0]
        asked = "eval_on_start=true" if args.eval_on_start else f"eval_strategy={args.eval_strategy.value}"
        raise InputError(f"{name}.{asked} needs an `evaluation:` block")
    if config.evaluation is None:
        return
    if not asking:
        raise InputError("`evaluation:` is given, but no stage evaluates; set eval_strategy: steps and eval_steps")
    known = StepEvaluation(evaluated(config), Path(config.output)).metrics
    for name, args in asking:
        metric = (args.metric_for_best_model or REWARD).removeprefix("eval_")
        if metric not in known:
            raise InputError(f"{name}.metric_for_best_model={metric!r} is not measured; {nearest(metric, known)}")
        cycle = getattr(args, "steps_per_generation", None) or 1
        cycle = max(cycle // args.gradient_accumulation_steps, 1) * getattr(args, "num_iterations", 1)
        if args.metric_for_best_model and args.eval_strategy == "steps" and args.eval_steps % cycle:
            raise InputError(
                f"{name}.eval_steps={args.eval_steps:g} is not a multiple of {cycle}, the optimizer steps that share "
                "rollouts: training could not resume from a best checkpoint between them"
            )
