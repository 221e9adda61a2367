"""`mmrl train CONFIG`: its stages, one after the other. The same command continues a run that stopped.

The stages of models that make pictures are in `picture_stages`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_engine.schema import Sample
from eval.distributed import Processes
from mmrl.core.config import InputError
from mmrl.core.locks import alone
from mmrl.core.vision import check_budget
from mmrl.engine.settings import VllmSettings
from mmrl.train import latent_stage, picture_stages
from mmrl.train.asked import Asked
from mmrl.train.config import (
    FOLDERS,
    PREFERRING,
    ROLLING,
    HeadSettings,
    TrainConfig,
    arguments_of,
    form_of,
    makes_pictures,
    makes_rollouts,
    stages_of,
)
from mmrl.train.continuation import check_change
from mmrl.train.evaluation import check_evaluation, evaluated
from mmrl.train.fitting import fitted
from mmrl.train.model_card import model_card
from mmrl.train.reward_checks import check_heads, check_labels_left, check_rewards
from mmrl.trainers.evaluation import StepEvaluation, evaluates
from rewards import Suite
from rewards.forms import check_substance

logger = logging.getLogger(__name__)

AHEAD_CAP = 2.0  # the largest importance weight of rollouts that were drawn ahead


def run(config: TrainConfig) -> Path:
    """Run the stages of `config` that are not done yet; returns the directory of the final model."""
    if not stages_of(config):
        raise InputError(f"nothing to train: the config has none of the blocks {', '.join(FOLDERS)}")
    out = Path(config.output)
    if not makes_pictures(config) and config.prompt is None and (form := form_of(config)).protocol():
        config = config.model_copy(update={"prompt": form})  # the run remembers what its data said
    with alone(out, needed=Processes().main):
        longer = check_change(config, out)
        if makes_pictures(config):
            return picture_stages.trained(config, out, longer)
        check(config)
        for doubt in Asked(config).doubts():
            logger.warning(doubt)
        if makes_rollouts(config):
            Suite(config.rewards, judges=config.judges).check_judges()
        model = config.model
        final = Path(model)
        for stage in stages_of(config):
            final = _stage(config, stage, model, longer=stage in longer)
            if stage != "reward":  # a head is no policy: the next stage begins where this one did
                model = str(final)
    return final


def check(config: TrainConfig) -> None:
    """Refuse wrong settings and data of every stage before the first stage begins."""
    if makes_pictures(config):
        picture_stages.check(config)
        return
    from mmrl.grpo.config_checks import (
        check_dpo,
        check_filled,
        check_method,
        check_reward,
        check_shaping,
        check_warm_up,
    )
    from mmrl.train.samples import held_out_samples, stage_samples
    from mmrl.trainers.dataset import gold_keys
    from mmrl.trainers.targets import can_be_written, check_answers

    _check_blocks(config)
    pairs = stage_samples(config, "dpo") if config.dpo is not None else []
    samples = stage_samples(config, "grpo") if {*stages_of(config)} - {*PREFERRING} else []
    tasks = gold_keys(samples)
    form_of(config).check_tasks([*tasks, *gold_keys(pairs)])
    answering = [stage for stage in stages_of(config) if stage != "reward"]
    check_evaluation(config, [(stage, arguments_of(config, stage)) for stage in answering])
    if config.reward is not None:
        arguments = arguments_of(config, "reward")
        check_reward(arguments, config.head.kind)
        stage_samples(config, "reward")
        if evaluates(arguments):
            held_out_samples(config)
    if config.sft_shaping is not None:
        check_shaping(None if config.sft is None else arguments_of(config, "sft"))
    if config.sft is not None:
        check_answers(samples)
        check_warm_up(arguments_of(config, "sft"))
        if config.rollout.tools:
            from mmrl.trainers.gold_turns import check_calls

            check_calls(samples, config.rollout)
    if config.dpo is not None:
        check_dpo(arguments_of(config, "dpo"))
        _check_messages(config)
    if config.grpo is not None:
        from data_engine.dataset.pairs import pair_places
        from mmrl.advantages import options_of
        from mmrl.grpo.estimator_data import check_demonstrations

        arguments = arguments_of(config, "grpo")
        suite, estimator = Suite(config.rewards, judges=config.judges), config.advantages
        check_method(arguments, suite.names, estimator.name, estimator.options, **method_of(config))
        if config.rollout.inject is not None:
            check_answers([sample for sample in samples if can_be_written(sample.task)])
        if "gaps_PG" in options_of(estimator.name):
            check_demonstrations(suite, (sample.meta for sample in samples))
        if "pairs_P" in options_of(estimator.name):
            pair_places([sample.id for sample in samples], [sample.meta for sample in samples])
        check_filled(len(samples), arguments.generation_batch_size // arguments.num_generations)
    if config.latent is not None:
        latent_stage.check(config)
    if makes_rollouts(config):
        suite = Suite(config.rewards, judges=config.judges)
        suite.check_tasks(tasks)
        check_rewards(config.rewards)
        check_substance(config.rewards, tasks, config.form_only)
        for task, names in suite.tasks_scored(tasks).items():
            logger.warning("task %s is scored by %s", task, ", ".join(names))


def _check_blocks(config: TrainConfig) -> None:
    """Refuse settings of a stage that the config does not have: they would be ignored."""
    preferences = config.preferences
    for what, given, stages in (
        ("head", config.head != HeadSettings(), ("reward",)),
        ("preferences.relabel", preferences and preferences.relabel, ("dpo",)),
        ("preferences.token_reward", preferences and preferences.token_reward, ("dpo",)),
        ("preferences", preferences, PREFERRING),
    ):
        if given and not {*stages} & {*stages_of(config)}:
            raise InputError(f"{what} is of the stage {' or '.join(stages)}, which the config does not have")
    if config.head.held_out is not None and not evaluates(arguments_of(config, "reward")):
        raise InputError(
            "head.held_out is given, but reward does not evaluate; set reward.eval_strategy and eval_steps"
        )


def _check_messages(config: TrainConfig) -> None:
    """Refuse a system message next to those by which `dpo` asks, and T-REG without a reference that it can read."""
    asking = [name for name in ("relabel", "token_reward") if getattr(config.preferences, name, None)]
    if asking and form_of(config).system is not None:
        raise InputError(f"preferences.{asking[0]} asks by a system message, which prompt.system would replace")
    if "token_reward" in asking and not arguments_of(config, "dpo").precompute_ref_log_probs:
        raise InputError("preferences.token_reward reads log-probs of the reference: dpo.precompute_ref_log_probs=true")


def _stage(config: TrainConfig, stage: str, model_path: str, *, longer: bool = False) -> Path:
    """Train one stage, from its newest checkpoint if there is one; a stage that is done is not run again, unless it is
    to become `longer`."""
    from transformers import set_seed

    from mmrl.model.encoding import encode, naming
    from mmrl.train.samples import stage_samples
    from mmrl.trainers.checkpoints import latest_checkpoint
    from mmrl.trainers.dataset import as_dataset
    from mmrl.trainers.final import save_final, scores

    out = Path(config.output, FOLDERS[stage])
    final = out / "final"
    if (final / "config.json").exists() and not longer:
        logger.warning("done already: %s", final)
        return final
    set_seed(config.seed)  # LoRA's first weights are random, and the same whether or not a stage ran before
    samples = stage_samples(config, stage)
    model, processor = _head(config, model_path) if stage == "reward" else _policy(config, stage, model_path, samples)
    trainer = TRAINERS[stage](config, out, model, processor, as_dataset(samples))
    if stage in ROLLING:
        check_heads(config.rewards)
        if latest_checkpoint(out):
            check_labels_left(config.rewards)
    if stage != "reward" and evaluates(trainer.args):
        trainer.evaluation = StepEvaluation(evaluated(config), out / "eval")
    fitted(trainer, config, out, longer=longer)
    state = trainer.state
    card = model_card(config, stage, state.log_history, state.global_step)
    if stage == "latent":
        latent_stage.save_head(trainer, final, card=card)
        return final
    if stage == "reward":
        batch = trainer.data_collator([trainer.train_dataset[0]])
        read = {name: value for name, value in batch.items() if name not in ("places", "targets", "margin")}
        save_final(trainer, processor, final, read, card=card, reading=scores)
        return final
    first, form = samples[0], form_of(config)
    with naming(first.id):
        prompt = encode(processor, first.prompt, first.media, config.vision, task=first.task, form=form)
    save_final(trainer, processor, final, prompt, card=card)
    return final


def _policy(config: TrainConfig, stage: str, model_path: str, samples: Sequence[Sample]) -> tuple[Any, Any]:
    """(model, processor) of a stage that answers, checked against the samples."""
    from eval.answer.local import check_frames, probe_sizes
    from mmrl.grpo.context_length import check_context
    from mmrl.model.encoding import check_form
    from mmrl.model.inputs import check_inputs, context_of
    from mmrl.model.policy import adapted, load_policy
    from mmrl.tools.form import with_tools

    model, processor = load_policy(model_path, config.vision, dtype=config.dtype, attention=config.attention)
    check_form(processor, form_of(config))
    check_inputs(model, processor, [[media.kind for media in sample.media] for sample in samples])
    check_frames(model, samples, config.vision, processor)
    check_budget(processor, config.vision, probe_sizes(samples, config.vision, processor))
    if stage in ("grpo", "latent"):
        args = arguments_of(config, stage)
        new = args.max_completion_length + (args.latent_steps if stage == "latent" else 0)
        form = with_tools(form_of(config), processor, config.rollout)
        check_context(samples, processor, config.vision, context_of(model), new, form)
    return (model if stage == "latent" else adapted(model, frozen=config.freeze, lora=config.lora)), processor


def _head(config: TrainConfig, model_path: str) -> tuple[Any, Any]:
    """(model with a head, processor) of the stage `reward`."""
    from mmrl.model.policy import adapted, load_policy
    from mmrl.trainers.reward import with_head
    from mmrl.trainers.token_rewards import with_scores

    policy, processor = load_policy(model_path, config.vision, dtype=config.dtype, attention=config.attention)
    kind = config.head.kind
    model = with_head(policy, processor) if kind == "scalar" else with_scores(policy, processor, kind)
    made = adapted(model, frozen=config.freeze, lora=config.lora, task="SEQ_CLS" if kind == "scalar" else "TOKEN_CLS")
    if config.lora is None:
        model.score.requires_grad_(True)  # whatever part of the model is frozen
    return made, processor


def reward_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    """The trainer of the stage `reward`."""
    from mmrl.train.samples import held_out_samples
    from mmrl.trainers.dataset import as_dataset
    from mmrl.trainers.reward import MultimodalRewardTrainer
    from mmrl.trainers.token_rewards import ROWS, PlacesTrainer

    args = arguments_of(config, "reward", out)
    held_out = as_dataset(held_out_samples(config)) if evaluates(args) else None
    given = {"processor": processor, "args": args, "train_dataset": dataset, "eval_dataset": held_out}
    if config.head.kind == "scalar":
        return MultimodalRewardTrainer(model, **given)
    return PlacesTrainer(model, rows=ROWS[config.head.kind], **given)


def sft_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    """The trainer of the stage `sft`."""
    from mmrl.trainers.sft import MultimodalSFTTrainer

    return MultimodalSFTTrainer(
        model,
        space=config.space,
        shaping=config.sft_shaping,
        tools=config.rollout if config.rollout.tools else None,
        **_given(config, "sft", out, processor, dataset),
    )


def dpo_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    """The trainer of the stage `dpo`."""
    from mmrl.tools.form import with_tools
    from mmrl.trainers.dpo import MultimodalDPOTrainer

    token_reward = config.preferences.token_reward if config.preferences else None
    given = _given(config, "dpo", out, processor, dataset)
    given["form"] = with_tools(given["form"], processor, config.rollout)  # asked as `grpo` asks
    return MultimodalDPOTrainer(model, token_reward=token_reward, **given)


def grpo_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    """The trainer of the stage `grpo`."""
    from mmrl.grpo.trainer import MultimodalGRPOTrainer

    return MultimodalGRPOTrainer(
        model,
        rewards=Suite(config.rewards, judges=config.judges, max_failed=config.max_failed, min_calls=config.min_calls),
        space=config.space,
        advantages=config.advantages.name,
        advantage_options=config.advantages.options,
        shared_prefix=config.rollout.shared_prefix,
        **method_of(config),
        **_given(config, "grpo", out, processor, dataset),
    )


def _given(config: TrainConfig, stage: str, out: Path, processor: Any, dataset: Any) -> dict[str, Any]:
    """What the trainers of all stages that answer prompts are given."""
    return {
        "processing_class": processor,
        "args": arguments_of(config, stage, out),
        "train_dataset": dataset,
        "eval_dataset": dataset,  # unread: `RecordedEvaluations` has its own, but transformers wants one
        "budget": config.vision,
        "form": form_of(config),
    }


TRAINERS: dict[str, Callable[..., Any]] = {
    "reward": reward_trainer,
    "sft": sft_trainer,
    "dpo": dpo_trainer,
    "grpo": grpo_trainer,
    "latent": latent_stage.latent_trainer,
}


def method_of(config: TrainConfig) -> dict[str, Any]:
    """How rollouts are drawn and weighed, as the trainer's keywords."""
    rollout = config.rollout
    cap = AHEAD_CAP if rollout.ahead and rollout.importance_cap is None else rollout.importance_cap
    return {
        "temperature": rollout.temperature,
        "refills": rollout.refills,
        "inject": rollout.inject,
        "importance_cap": cap,
        "credit": config.advantages.tokens,
        "engine": (rollout.vllm or VllmSettings()) if rollout.engine == "vllm" else None,
        "ahead": rollout.ahead,
        "tools": rollout if rollout.tools else None,
        "tree": rollout.tree,
    }
