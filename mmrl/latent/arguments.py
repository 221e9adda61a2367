"""The settings of the block `latent:`: those of transformers' trainer, and of the thoughts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from transformers import TrainingArguments

from mmrl.core.config import InputError, nearest
from mmrl.model.latent import Place


@dataclass
class LatentArguments(TrainingArguments):
    """`per_device_train_batch_size` counts prompts, each with `num_generations` answers."""

    num_generations: int = field(default=8, metadata={"help": "Thoughts of each prompt that are answered: a group."})
    draws: int = field(
        default=0,
        metadata={"help": "Thoughts drawn of each prompt; those of largest predicted reward are answered. 0: no more."},
    )
    max_completion_length: int = field(default=256, metadata={"help": "Tokens of an answer."})
    latent_place: str = field(
        default="begin",
        metadata={"help": "Where in the prompt it stands: begin, behind the first token; end, before the last."},
    )
    latent_size: int = field(default=16, metadata={"help": "Numbers of a thought."})
    latent_steps: int = field(default=4, metadata={"help": "Vectors that a thought stands for in the prompt."})
    width: int = field(default=512, metadata={"help": "The width of the head's layer."})
    deviation: float = field(default=1.0, metadata={"help": "How far thoughts are from their mean at first."})
    contrast: float = field(default=0.1, metadata={"help": "The weight of the contrastive loss."})
    contrast_temperature: float = field(default=0.1, metadata={"help": "Its temperature."})
    spread: float = field(default=0.01, metadata={"help": "How much good thoughts are kept apart."})
    spread_cap: float = field(default=2.0, metadata={"help": "The distance from which on they are far enough."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws and self.draws < self.num_generations:
            chosen = f"latent.num_generations={self.num_generations} are chosen of them"
            raise InputError(f"latent.draws={self.draws}: {chosen}; leave it out, or draw more")
        for name in ("latent_size", "latent_steps", "width", "max_completion_length"):
            if getattr(self, name) < 1:
                raise InputError(f"latent.{name}={getattr(self, name)}; it must be at least 1")
        if self.latent_place not in get_args(Place):
            raise InputError(
                f"latent.latent_place={self.latent_place!r}; {nearest(self.latent_place, get_args(Place))}"
            )
        if self.num_generations < 2:
            raise InputError(f"latent.num_generations={self.num_generations}; a group has at least 2 thoughts")
        for name in ("deviation", "contrast_temperature", "spread_cap"):
            if not getattr(self, name) > 0:
                raise InputError(f"latent.{name}={getattr(self, name):g}; it must be above 0")
        for name in ("contrast", "spread"):
            if not getattr(self, name) >= 0:
                raise InputError(f"latent.{name}={getattr(self, name):g}; it must be at least 0")
