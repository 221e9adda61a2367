"""The stages of a model that makes pictures: flow matching on edits, then reinforcement learning on its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from eval.answer.backends import check_pictures
from eval.sample_sets import split_samples
from mmrl.core.config import InputError
from mmrl.train.config import FOLDERS, TrainConfig, arguments_of, makes_rollouts, stages_of
from mmrl.train.evaluation import check_evaluation, evaluated
from mmrl.train.fitting import fitted
from mmrl.train.model_card import model_card
from mmrl.trainers.evaluation import StepEvaluation, evaluates
from rewards import Suite
from rewards.forms import check_sees_pictures
from rewards.gradients import check_gradients

logger = logging.getLogger(__name__)

OF_TEXT = (
    *("vision", "space", "prompt", "freeze", "attention"),
    *("rollout", "form_only", "dpo", "preferences", "grpo", "latent", "sft_shaping"),
)
GIVEN = {"tasks_P", "failed_PG", "injected_PG"}  # what an estimator may want of a batch


def trained(config: TrainConfig, out: Path, longer: set[str]) -> Path:
    """Run the stages that are not done yet; the directory of the final pipeline."""
    check(config)
    if config.flow is not None:
        Suite(config.rewards, judges=config.judges).check_judges()
    model = config.model
    for stage in stages_of(config):
        model = str(_stage(config, stage, out / FOLDERS[stage], model, longer=stage in longer))
    return Path(model)


def check(config: TrainConfig) -> None:
    """Refuse wrong settings, data and models before the first stage begins."""
    from mmrl.model.flow.loading import check_editor, policy_of
    from mmrl.model.flow.pictures import check_edits, check_size
    from mmrl.model.loading import local
    from mmrl.trainers.dataset import training_samples

    for key in OF_TEXT:
        if getattr(config, key) != type(config).model_fields[key].get_default(call_default_factory=True):
            raise InputError(f"{key} is for models that write, not for a pipeline that makes pictures; remove it")
    arguments = {stage: arguments_of(config, stage) for stage in stages_of(config)}
    check_evaluation(config, list(arguments.items()))
    if config.evaluation is not None:
        asked = evaluated(config)
        check_pictures(asked, split_samples(asked.data).load())
    samples = training_samples(config.data, config.split, config.limit, config.task)
    if config.flow is not None:
        _check_method(config, arguments["flow"])
        suite = Suite(config.rewards, judges=config.judges)
        suite.check_tasks(sample.task for sample in samples)
    step = check_editor(local(config.model))
    policy_of(local(config.model)).check_tasks(sample.task for sample in samples)
    check_edits(samples, step, edits=config.sft is not None or not makes_rollouts(config))
    if "flow" in arguments and not all(sample.media for sample in samples):
        check_size((arguments["flow"].side,) * 2, step)


def _check_method(config: TrainConfig, args: Any) -> None:
    """Refuse an algorithm, an estimator or rewards that do not fit."""
    from mmrl.flow.algorithms import algorithm_of
    from mmrl.flow.algorithms.consistency import Consistency

    algorithm = algorithm_of(args.algorithm, args.options)
    if isinstance(algorithm, Consistency):
        _check_consistency(config)
        return
    algorithm.check_group(args.num_generations)
    check_estimator(config, "a picture")
    check_sees_pictures(config.rewards)


def check_estimator(config: TrainConfig, made: str) -> None:
    """Refuse an estimator that reads tokens, where what is `made` has none."""
    from mmrl.advantages import batch_data_of, check_options

    estimator = config.advantages
    if missing := sorted(set(batch_data_of(estimator.name)) - GIVEN):
        raise InputError(f"the estimator {estimator.name} needs {', '.join(missing)}, which {made} does not have")
    check_options(estimator.name, estimator.options, rewards=len(config.rewards))
    if estimator.tokens is not None:
        raise InputError(f"advantages.tokens spreads an advantage over tokens, and {made} has none; remove it")


def _check_consistency(config: TrainConfig) -> None:
    """Refuse rewards without a gradient, and settings of pictures that are not made."""
    check_gradients(config.rewards, where="rewards", follower="consistency", others="crd or flow_grpo")
    unread = [f"flow.{key}" for key in ("num_generations", "save_pictures_steps") if key in (config.flow or {})]
    if unread or config.advantages != type(config).model_fields["advantages"].default:
        raise InputError(
            f"{unread[0] if unread else 'advantages'} is about pictures that a policy makes to learn from; consistency "
            "makes none, remove it"
        )


def _stage(config: TrainConfig, stage: str, out: Path, model_path: str, *, longer: bool) -> Path:
    from transformers import set_seed

    from mmrl.flow.saving import save_editor
    from mmrl.model.flow.loading import adapted_editor, check_finite, load_editor
    from mmrl.model.loading import INDEX, local
    from mmrl.trainers.dataset import as_dataset, training_samples

    final = out / "final"
    if (final / INDEX).exists() and not longer:
        logger.warning("done already: %s", final)
        return final
    set_seed(config.seed)
    args = arguments_of(config, stage, out)
    samples = training_samples(config.data, config.split, config.limit, config.task)
    made = (
        {name: getattr(args, name) for name in ("guidance", "side", "frames")} if stage == "flow" else {"guidance": 1.0}
    )
    policy = load_editor(local(model_path), dtype=config.dtype, **made)
    check_finite(policy, samples[0])
    adapted_editor(policy, config.lora)
    trainer = _trainer(config, stage, policy, args, as_dataset(samples))
    if evaluates(args):
        trainer.evaluation = StepEvaluation(evaluated(config), out / "eval")
    fitted(trainer, config, out, longer=longer)
    card = model_card(config, stage, trainer.state.log_history, trainer.state.global_step)
    save_editor(trainer, final, samples[0], card=card)
    return final


def _trainer(config: TrainConfig, stage: str, policy: Any, args: Any, dataset: Any) -> Any:
    from mmrl.flow.trainer import ConsistencyTrainer, FlowMatchingTrainer, FlowTrainer

    if stage == "sft":
        return FlowMatchingTrainer(policy, args=args, train_dataset=dataset)
    estimator = config.advantages
    suite = Suite(config.rewards, judges=config.judges, max_failed=config.max_failed, min_calls=config.min_calls)
    if not makes_rollouts(config):
        return ConsistencyTrainer(policy, rewards=suite, args=args, train_dataset=dataset)
    return FlowTrainer(
        policy,
        rewards=suite,
        args=args,
        train_dataset=dataset,
        advantages=estimator.name,
        advantage_options=estimator.options,
    )
