"""What the GRPO trainer refuses before a run begins: what it cannot do, and what would make a resumed run another."""

from __future__ import annotations

from collections.abc import Collection

from trl.trainer.grpo_config import GRPOConfig

from mmrl.advantages import options_of
from mmrl.config import InputError
from mmrl.credit import Credit
from mmrl.gcpo import check_pairs
from mmrl.temperature import TemperatureSchedule


def check_settings(
    args: GRPOConfig,
    advantages: str,
    temperature: TemperatureSchedule | None = None,
    refills: int = 0,
    credit: Credit | None = None,
    importance_cap: float | None = None,
) -> None:
    """Refuse what the trainer cannot do, and what would make a resumed run another run."""
    held = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    for what, wanted in ((f"rollout.refills={refills}", refills), ("advantages.tokens.thr", credit and credit.thr)):
        if wanted and held % (args.num_generations or 1):
            raise InputError(
                f"{what} needs whole groups on every process: per_device_train_batch_size * steps_per_generation = "
                f"{held} is no multiple of num_generations={args.num_generations}"
            )
    if refills and args.log_completions:
        raise InputError(f"rollout.refills={refills} needs log_completions=false; OUT/rollouts has all completions")
    if temperature is not None and args.temperature != 1:
        raise InputError(
            f"grpo.temperature={args.temperature:g} and rollout.temperature are both given; "
            "leave grpo.temperature at 1, the schedule has all temperatures"
        )
    if "hardness_PG" in options_of(advantages):
        raise InputError(
            f"the estimator {advantages} needs hardness_PG, which the trainer has not; use it as a function"
        )
    if "pairs_P" in options_of(advantages):
        check_pairs(args, refills)
    if args.use_vllm:
        _check_vllm(args, temperature, importance_cap)
    if args.sync_ref_model:
        raise InputError("sync_ref_model=true is not supported: the moved reference model is not in the checkpoints")
    assert args.steps_per_generation is not None  # GRPOConfig fills it in
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise InputError(
            f"steps_per_generation={args.steps_per_generation} must be a multiple of "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps}: generations are whole optimizer steps"
        )
    cycle = args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations
    if args.save_strategy == "steps" and cycle > 1 and args.save_steps % cycle:  # rollouts are not in the checkpoints
        raise InputError(
            f"save_steps={args.save_steps:g} is no multiple of {cycle}, the optimizer steps that share rollouts "
            f"(steps_per_generation={args.steps_per_generation} / gradient_accumulation_steps="
            f"{args.gradient_accumulation_steps} * num_iterations={args.num_iterations})"
        )


def check_served(kinds: Collection[str]) -> None:
    """Refuse media that TRL's vLLM client cannot send."""
    if "video" in kinds:
        raise InputError("grpo.use_vllm=true: TRL 1.16 sends pictures to vLLM, no videos; the model would not see them")


def _check_vllm(args: GRPOConfig, temperature: TemperatureSchedule | None, importance_cap: float | None) -> None:
    if args.vllm_mode != "server":
        raise InputError(
            f"grpo.vllm_mode={args.vllm_mode!r} corrupts prompts with pictures: TRL 1.16 hands vLLM ids with expanded "
            "image tokens together with the pictures, and vLLM expands them again; use vllm_mode: server"
        )
    if temperature is not None:
        raise InputError("rollout.temperature needs sampling in the trainer; with grpo.use_vllm set grpo.temperature")
    if importance_cap is not None and args.vllm_importance_sampling_correction:
        raise InputError(
            f"rollout.importance_cap={importance_cap:g} and grpo.vllm_importance_sampling_correction=true both weigh "
            "the tokens; set one of them"
        )
