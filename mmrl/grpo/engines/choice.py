"""The engine of a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrl.engine.settings import VllmSettings
from mmrl.grpo.engines.base import RolloutEngine
from mmrl.grpo.engines.local import LocalRollouts
from mmrl.grpo.engines.tree import Tree, TreeRollouts
from mmrl.grpo.shared_prefix.parity import PrefixSharing
from mmrl.model.sampling import vision_token_ids


def rollout_engine(
    trainer: Any, sharing: PrefixSharing, settings: VllmSettings | None, *, ahead: int = 0, tree: Tree | None = None
) -> RolloutEngine:
    """The policy itself, or vLLM if there are `settings` of it, with `ahead` 1 asked one generation ahead; the groups
    are trees if there are settings of one."""
    engine = _engine(trainer, sharing, settings, ahead)
    return engine if tree is None else TreeRollouts(trainer, engine, tree)


def _engine(trainer: Any, sharing: PrefixSharing, settings: VllmSettings | None, ahead: int) -> RolloutEngine:
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    banned = vision_token_ids(policy.config, trainer.processing_class)
    if settings is None:
        return LocalRollouts(trainer, sharing, banned)
    from mmrl.engine.features import FeatureWriter
    from mmrl.grpo.engines.ahead import AheadRollouts
    from mmrl.grpo.engines.served import ServedRollouts

    writer = FeatureWriter(policy.config, trainer.processing_class)
    served = ServedRollouts(trainer, lambda: _vllm(trainer, policy, settings), writer, banned, settings.check_every)
    return AheadRollouts(trainer, served) if ahead else served


def _vllm(trainer: Any, policy: Any, settings: VllmSettings) -> Any:
    import torch
    from accelerate.utils import is_peft_model

    from mmrl.engine.remote import engine_of
    from mmrl.engine.served import Served
    from mmrl.engine.weights import adapts_vision
    from mmrl.model.loading import local

    args, adapted = trainer.args, is_peft_model(policy)
    served = Served(
        local(policy.config._name_or_path),
        policy.config.model_type,
        policy.get_output_embeddings().weight.shape[0],
        dtype="bfloat16" if args.bf16 else "float16" if args.fp16 else str(policy.dtype).removeprefix("torch."),
        lora_rank=max(config.r for config in policy.peft_config.values()) if adapted else 0,
        tower=bool(adapted) and adapts_vision(policy),
    )
    log = Path(str(args.output_dir)) / "engine.log"
    return engine_of(settings, served, log, cpu=not torch.cuda.is_available())
