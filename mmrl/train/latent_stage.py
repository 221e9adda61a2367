"""The stage `latent`: a head that thinks before a model that stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrl.core.config import InputError, RunError
from mmrl.core.files import put_in_place
from mmrl.train.config import TrainConfig, arguments_of, form_of, stages_of
from mmrl.train.picture_stages import check_estimator
from rewards import Suite

DRAWING = (
    "tree",
    "temperature",
    "refills",
    "inject",
    "importance_cap",
    "engine",
    "ahead",
)  # of rollout: how grpo draws


def check(config: TrainConfig) -> None:
    """Refuse settings that the stage cannot follow."""
    args = arguments_of(config, "latent")
    if args.deepspeed or args.fsdp:
        raise InputError("latent: the head is small and the model stays whole; leave deepspeed and fsdp out")
    if config.rollout.tools:
        raise InputError("rollout.tools: a thought stands before an answer of one turn; leave the tools or latent out")
    if config.grpo is None and (given := config.rollout.unusual(DRAWING)):
        raise InputError(f"rollout.{given[0]} is for grpo; behind a thought the answer is greedy, so leave it out")
    if stages_of(config) == ["latent"] and (config.lora or config.freeze):
        raise InputError(f"{'lora' if config.lora else 'freeze'}: latent trains a head, and the model stays as it is")
    check_estimator(config, "a thought")


def latent_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    """The trainer of the stage, with a new head."""
    from eval.answer.local import LocalGenerator
    from eval.generation import Sampling
    from mmrl.latent.trainer import LatentTrainer
    from mmrl.model.latent import new_head
    from mmrl.model.loading import fingerprint, local

    args = arguments_of(config, "latent", out)
    sampling = Sampling(max_new_tokens=args.max_completion_length)
    head = new_head(
        model,
        fingerprint(local(model.name_or_path)),
        place=args.latent_place,
        size=args.latent_size,
        steps=args.latent_steps,
        width=args.width,
        deviation=args.deviation,
    )
    return LatentTrainer(
        head,
        generator=LocalGenerator(model, processor, budget=config.vision, sampling=sampling, form=form_of(config)),
        rewards=Suite(config.rewards, judges=config.judges, max_failed=config.max_failed, min_calls=config.min_calls),
        space=config.space,
        args=args,
        train_dataset=dataset,
        advantages=config.advantages.name,
        advantage_options=config.advantages.options,
    )


def save_head(trainer: Any, final: Path, *, card: str) -> None:
    """Write the head and its card to `final`, whole or not at all; RunError if what is on disk is another head."""
    import torch

    from mmrl.model.latent import LatentHead
    from mmrl.trainers.finite import check_saved

    head, staging = trainer.accelerator.unwrap_model(trainer.model), final.with_name(".final.writing")
    check_saved(head)
    if trainer.accelerator.is_main_process:
        head.save_pretrained(staging)
        (staging / "README.md").write_text(card, encoding="utf-8")
        trained = head.cpu().state_dict()
        again = LatentHead.from_pretrained(staging, dtype=head.dtype).state_dict()
        if not all(torch.equal(again[name], value) for name, value in trained.items()):
            raise RunError(
                f"{staging} is not the head that was trained; it is left there, and the checkpoints are whole"
            )
        put_in_place(staging, final)
    trainer.accelerator.wait_for_everyone()
