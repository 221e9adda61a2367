"""mmrl: curate, train and evaluate vision-language models with reinforcement learning."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mmrl.core.beside import find_beside

if TYPE_CHECKING:
    from mmrl.grpo.trainer import MultimodalGRPOTrainer
    from mmrl.trainers.dpo import MultimodalDPOTrainer
    from mmrl.trainers.sft import MultimodalSFTTrainer

__all__ = ["MultimodalDPOTrainer", "MultimodalGRPOTrainer", "MultimodalSFTTrainer"]

_TRAINERS = {  # imported when they are asked for: they load torch
    "MultimodalDPOTrainer": "mmrl.trainers.dpo:MultimodalDPOTrainer",
    "MultimodalGRPOTrainer": "mmrl.grpo.trainer:MultimodalGRPOTrainer",
    "MultimodalSFTTrainer": "mmrl.trainers.sft:MultimodalSFTTrainer",
}

find_beside()


def __getattr__(name: str) -> Any:
    if name not in _TRAINERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_TRAINERS[name])
