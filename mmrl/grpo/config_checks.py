"""Checks of a training config before a run: refuses what the trainers cannot do and what would break exact resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trl.trainer.dpo_config import DPOConfig
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.reward_config import RewardConfig
from trl.trainer.sft_config import SFTConfig

from mmrl.advantages import batch_data_of, check_options, options_of
from mmrl.core.config import InputError, nearest
from mmrl.engine.settings import VllmSettings
from mmrl.grpo.credit import Credit, check_credit
from mmrl.grpo.engines.tree import Tree
from mmrl.grpo.estimator_data import PROVIDED
from mmrl.grpo.injection import Injection, check_injection
from mmrl.grpo.pair_sampler import check_pairs, compared_flags
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.tools.registry import tools_of
from mmrl.tools.settings import ToolSettings
from mmrl.trainers.sharding import check_sharding
from mmrl.trainers.token_losses import check_losses

# Settings of GRPOConfig that have an effect in TRL and none in this trainer, and what to do instead.
WITHOUT_EFFECT = {
    "scale_rewards": "use advantages: the estimator scales (name: dr_grpo does not; options: {whiten: batch})",
    "multi_objective_aggregation": "use advantages: {name: grpo} sums first, {name: gdpo} standardises first",
    "reward_weights": "use rewards: each has a weight",
    "model_init_kwargs": "use dtype and attention at the top level of the config",
    "trust_remote_code": "remove it: code that comes with a checkpoint is not run",
    "chat_template_kwargs": "use prompt: {chat_template_kwargs: {...}} at the top level of the config",
    "label_smoothing_factor": "use 0: this loss has no labels to smooth",
    "log_multimodal": "use `mmrl view`, which shows each rollout with its pictures",
    "repetition_penalty": "use rewards: {fn: repetition}; a penalty while sampling is not in the log-probs",
    "generation_kwargs": "use temperature, top_p, top_k and min_p of the grpo block, or rollout.temperature",
    "cast_lm_head_to_fp32": "use dtype: float32; TRL finds the head of pure language models only",
    "cache_implementation": "remove it: the cache of a prompt is shared by its rollouts",
    "use_vllm": "use rollout: {engine: vllm}, which shows vLLM all media and needs no NCCL for new weights",
    "use_transformers_continuous_batching": "remove it: TRL has it for prompts without media only",
    "use_transformers_paged": "remove it: TRL has it for prompts without media only",
    "remove_unused_columns": "remove it: the rewards need all columns",
}
# The same for SFTConfig.
WITHOUT_EFFECT_ON_SFT = {
    "model_init_kwargs": "use dtype and attention at the top level of the config",
    "trust_remote_code": "remove it: code that comes with a checkpoint is not run",
    "chat_template_path": "use the checkpoint's chat template",
    "dataset_text_field": "remove it: samples have the columns of mmrl data build",
    "dataset_kwargs": "remove it: samples have the columns of mmrl data build",
    "max_length": "remove it: nothing is truncated; limit: or a filter in the recipe leaves out long samples",
    "truncation_mode": "remove it: nothing is truncated",
    "packing": "remove it: each sample is a row of its own",
    "eval_packing": "remove it: each sample is a row of its own",
    "padding_free": "remove it: each sample is a row of its own",
    "completion_only_loss": "remove it: only the answer is learned",
    "assistant_only_loss": "remove it: only the answer is learned",
}
# The same for DPOConfig.
WITHOUT_EFFECT_ON_DPO = {
    "model_init_kwargs": "use dtype and attention at the top level of the config",
    "trust_remote_code": "remove it: code that comes with a checkpoint is not run",
    "dataset_num_proc": "remove it: prompts are encoded while the model trains",
    "max_length": "remove it: nothing is truncated; limit: or a filter in the recipe leaves out long samples",
    "truncation_mode": "remove it: nothing is truncated",
    "padding_free": "remove it: each answer is a row of its own",
    "pad_to_multiple_of": "remove it: rows are padded to the longest",
    "pad_token": "use the checkpoint's own",
}
# The same for RewardConfig.
WITHOUT_EFFECT_ON_REWARD = {
    "model_init_kwargs": "use dtype and attention at the top level of the config",
    "trust_remote_code": "remove it: code that comes with a checkpoint is not run",
    "chat_template_path": "use the checkpoint's chat template",
    "dataset_num_proc": "remove it: answers are encoded while the head trains",
    "eos_token": "remove it: the chat template ends the answers",
    "max_length": "remove it: nothing is truncated; limit: or a filter in the recipe leaves out long samples",
    "pad_to_multiple_of": "remove it: rows are padded to the longest",
    "pad_token": "use the checkpoint's own",
}
GRPO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")  # as below
# Values that describe what is done anyway.
HARMLESS = (
    *(("max_length", None), ("completion_only_loss", True), ("eval_packing", False), ("pad_to_multiple_of", None)),
)


def check_method(
    args: GRPOConfig,
    rewards: Sequence[str],
    advantages: str,
    options: Mapping[str, Any],
    *,
    inject: Injection | None,
    credit: Credit | None,
    **settings: Any,
) -> dict[str, Any]:
    """Refuse settings that do not fit together, whatever the data.

    Returns the estimator's options, with flags for the names of rewards.
    """
    check_settings(args, advantages, credit=credit, **settings)
    named = compared_flags(options, rewards)
    check_options(advantages, named, rewards=len(rewards))
    if settings.get("tools"):
        _check_tools(args, inject=inject, credit=credit, **settings)
    if settings.get("tree"):
        _check_tree(args, rewards, inject=inject, **settings)
    if inject is not None:
        check_injection(inject, rewards, advantages, options_of(advantages))
    if credit is not None:
        check_credit(credit, rewards)
    return named


def check_settings(
    args: GRPOConfig,
    advantages: str,
    temperature: TemperatureSchedule | None = None,
    refills: int = 0,
    credit: Credit | None = None,
    importance_cap: float | None = None,
    engine: VllmSettings | None = None,
    ahead: int = 0,
    tools: ToolSettings | None = None,
    tree: Tree | None = None,
) -> None:
    """Refuse what the GRPO trainer cannot do, and what would make a resumed run differ from an undisturbed one."""
    _check_effect(args, "grpo", WITHOUT_EFFECT)
    _check_steps(args, "grpo")
    check_sharding(args, "grpo")
    if args.loss_type not in GRPO_LOSSES:
        raise InputError(f"grpo.loss_type: unknown loss {args.loss_type!r}; {nearest(args.loss_type, GRPO_LOSSES)}")
    _check_sampling(args)
    held = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    whole_groups = (
        (f"rollout.refills={refills}", refills),
        ("rollout.tree", tree),
        ("advantages.tokens.thr", credit and credit.thr),
        ("advantages.tokens.sibling", credit and credit.sibling),
        ("advantages.tokens.steps", credit and credit.steps),
    )
    for what, wanted in whole_groups:
        if wanted and held % (args.num_generations or 1):
            raise InputError(
                f"{what} needs whole groups on every process: per_device_train_batch_size * steps_per_generation = "
                f"{held} is not a multiple of num_generations={args.num_generations}"
            )
    if refills and args.log_completions:
        raise InputError(f"rollout.refills={refills} needs log_completions=false; OUT/rollouts has all completions")
    if temperature is not None and args.temperature != 1:
        raise InputError(
            f"grpo.temperature={args.temperature:g} and rollout.temperature are both given; "
            "leave grpo.temperature at 1, the schedule sets all temperatures"
        )
    missing = sorted(set(batch_data_of(advantages)) - set(PROVIDED))
    if missing:
        raise InputError(
            f"the estimator {advantages} needs {', '.join(missing)}, which this trainer does not have (it has "
            f"{', '.join(PROVIDED)}); call it as a function"
        )
    if "pairs_P" in options_of(advantages):
        check_pairs(args, refills)
    if engine is not None and temperature is not None and temperature.schedule == "ead":
        raise InputError(
            "rollout.temperature: {schedule: ead} gives every token a temperature of its own, vLLM has one for a "
            "completion; use engine: local, or the schedule cosine"
        )
    if ahead and importance_cap is None:
        raise InputError(
            f"rollout.ahead={ahead} learns from completions of older weights: set rollout.importance_cap, such as 2.0"
        )
    if args.sync_ref_model:
        raise InputError("sync_ref_model=true is not supported: the updated reference model is not in the checkpoints")
    assert args.steps_per_generation is not None  # GRPOConfig fills it in
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise InputError(
            f"steps_per_generation={args.steps_per_generation} must be a multiple of "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps}: generations are whole optimizer steps"
        )
    cycle = args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations
    if args.deepspeed and not args.ds3_gather_for_generation:
        raise InputError(
            "ds3_gather_for_generation=false: with sharded weights a process whose prompts show no picture would leave "
            "the others waiting in the vision tower; leave it at true"
        )
    if args.save_strategy == "steps" and cycle > 1 and args.save_steps % cycle:  # rollouts are not in the checkpoints
        raise InputError(
            f"save_steps={args.save_steps:g} is not a multiple of {cycle}, the optimizer steps that share rollouts "
            f"(steps_per_generation={args.steps_per_generation} / gradient_accumulation_steps="
            f"{args.gradient_accumulation_steps} * num_iterations={args.num_iterations})"
        )


def _check_tree(args: GRPOConfig, rewards: Sequence[str], tree: Tree, **settings: Any) -> None:
    """Refuse groups that no trees fill, and what a rollout that begins in the middle cannot be combined with."""
    if (args.num_generations or 1) % tree.size:
        raise InputError(
            f"rollout.tree: {{branches: {tree.branches}, depth: {tree.depth}}} makes trees of {tree.size} rollouts; "
            f"grpo.num_generations={args.num_generations} must be a multiple of that"
        )
    if tree.value is not None and tree.value not in rewards:
        raise InputError(f"rollout.tree.value: no reward {tree.value!r}; {nearest(tree.value, rewards)}")
    schedule = settings.get("temperature")
    refused = {
        "rollout.inject": settings.get("inject"),
        "rollout.ahead": settings.get("ahead"),
        "rollout.temperature: {schedule: ead}": schedule is not None and schedule.schedule == "ead",
    }
    for name, given in refused.items():
        if given:
            raise InputError(f"rollout.tree cannot be combined with {name}; leave out one of the two")


def _check_tools(args: GRPOConfig, *, tools: ToolSettings, **settings: Any) -> None:
    """Refuse what rollouts of several turns cannot be combined with, and tools that cannot be told of."""
    schedule, credit = settings.get("temperature"), settings.get("credit")
    refused = {
        "rollout.inject": (settings.get("inject"), "a gold answer has no turns"),
        "rollout.ahead": (settings.get("ahead"), "the engine would draw later turns with other weights"),
        "advantages.tokens.thr": (credit is not None and credit.thr, "it would weigh the tokens of results"),
        "advantages.tokens.log_ratio": (credit is not None and credit.log_ratio, "it reads prompts of one turn"),
        "rollout.temperature: {schedule: ead}": (
            schedule is not None and schedule.schedule == "ead",
            "it counts the tokens of one turn; use cosine",
        ),
        "grpo.mask_truncated_completions": (
            args.mask_truncated_completions,
            "it would hide pictures whose pixels are there",
        ),
    }
    for name, (given, why) in refused.items():
        if given:
            raise InputError(f"rollout.tools cannot be combined with {name}: {why}")
    tools_of(tools.tools)


def check_warm_up(args: SFTConfig) -> None:
    """Refuse what the SFT trainer cannot do."""
    _check_effect(args, "sft", WITHOUT_EFFECT_ON_SFT)
    _check_order(args, "sft")
    _check_steps(args, "sft")
    check_sharding(args, "sft")


def check_shaping(args: SFTConfig | None) -> None:
    """Refuse a shaped loss where there is no warm-up, or where it has another loss already."""
    if args is None:
        raise InputError("sft_shaping is the loss of the stage sft, which the config does not have; add sft: {...}")
    if args.loss_type != "nll" or args.label_smoothing_factor:
        raise InputError(
            f"sft_shaping is a loss of its own, next to sft.loss_type={args.loss_type} and "
            f"sft.label_smoothing_factor={args.label_smoothing_factor:g}; leave out one of them"
        )


def check_reward(args: RewardConfig, kind: str = "scalar") -> None:
    """Refuse what the trainer of reward models cannot do, for a head of this kind."""
    _check_effect(args, "reward", WITHOUT_EFFECT_ON_REWARD)
    if args.center_rewards_coefficient is not None and kind != "scalar":
        raise InputError(
            f"reward.center_rewards_coefficient={args.center_rewards_coefficient:g} is for pairs; a head of the kind "
            f"{kind} has none, so leave it out"
        )
    _check_order(args, "reward")
    _check_steps(args, "reward")


def check_dpo(args: DPOConfig) -> None:
    """Refuse what the DPO trainer cannot do."""
    _check_effect(args, "dpo", WITHOUT_EFFECT_ON_DPO)
    _check_order(args, "dpo")
    _check_steps(args, "dpo")
    check_sharding(args, "dpo")
    check_losses(args)
    if args.sync_ref_model:
        raise InputError("dpo.sync_ref_model=true: the updated reference model is not in the checkpoints; leave it out")
    if args.precompute_ref_log_probs and args.deepspeed:
        raise InputError(
            "dpo.precompute_ref_log_probs=true does not go with deepspeed: it places weights later; leave it out"
        )


def check_filled(samples: int, prompts: int) -> None:
    """Refuse data that do not fill one generation: nothing would be trained."""
    if samples < prompts:
        raise InputError(
            f"a generation has {prompts} prompts (per_device_train_batch_size * steps_per_generation * processes / "
            f"num_generations) and the data have {samples}; lower the batch, or use more data"
        )


def _check_effect(args: Any, block: str, without_effect: Mapping[str, str]) -> None:
    """Refuse settings that would be ignored silently; TRL's defaults are taken as not set by the user."""
    fields = type(args).__dataclass_fields__
    given = {name: "use the block rollout.vllm" for name in fields if name.startswith("vllm_")}
    for name, instead in {**without_effect, **given}.items():
        value: Any = getattr(args, name)
        if value != fields[name].default and (name, value) not in HARMLESS:
            raise InputError(f"{block}.{name}={value!r} has no effect in this trainer; {instead}")


def _check_order(args: Any, block: str) -> None:
    if args.train_sampling_strategy == "group_by_length":
        raise InputError(
            f"{block}.train_sampling_strategy=group_by_length: lengths are known once media are encoded; use random"
        )


def _check_steps(args: Any, block: str) -> None:
    if args.max_steps < 0 and not args.num_train_epochs:
        raise InputError(f"{block}.num_train_epochs=0 trains nothing; remove the {block} block")
    if args.max_steps == 0:
        raise InputError(
            f"{block}.max_steps=0 does not stop TRL from training; remove the {block} block to train nothing"
        )


def _check_sampling(args: GRPOConfig) -> None:
    """Refuse settings with which completions cannot be sampled or scored."""
    top_k, min_p = args.top_k or 0, args.min_p or 0.0
    for name, fits, wanted in (
        (
            "temperature",
            args.temperature > 0,
            "above 0; a policy that always answers the same has nothing to learn from",
        ),
        ("top_p", 0 < args.top_p <= 1, "above 0 and at most 1"),
        ("top_k", top_k >= 0, "at least 0, which means no limit"),
        ("min_p", 0 <= min_p <= 1, "in [0, 1]"),
        ("max_completion_length", (args.max_completion_length or 0) >= 1, "at least 1"),
    ):
        if not fits:
            raise InputError(f"grpo.{name}={getattr(args, name)!r}; must be {wanted}")
