"""The settings of the block `flow:`: those of transformers' trainer, and how pictures are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from mmrl.model.flow.pictures import FRAMES, SIDE


@dataclass
class FlowArguments(TrainingArguments):
    """`per_device_train_batch_size` counts prompts, each with `num_generations` pictures."""

    algorithm: str = field(default="crd", metadata={"help": "How to learn: a name of mmrl.flow.algorithms."})
    options: dict[str, Any] = field(default_factory=dict, metadata={"help": "The options of the algorithm."})
    num_generations: int = field(default=12, metadata={"help": "Pictures made of each prompt: a group."})
    sampling_steps: int = field(default=10, metadata={"help": "Steps from noise to a picture."})
    side: int = field(default=SIDE, metadata={"help": "Pixels a side of pictures of texts, where none is right."})
    frames: int = field(default=FRAMES, metadata={"help": "Frames of a video."})
    guidance: float = field(
        default=3.5, metadata={"help": "The guidance: an input of the network, or how two velocities are mixed."}
    )
    ema_decay: float = field(
        default=0.0,
        metadata={"help": "The share of its own that the moving average of the weights keeps at most; 0: no average."},
    )
    ema_steps: int = field(default=1, metadata={"help": "The average moves every so many optimizer steps."})
    save_pictures_steps: int = field(
        default=1, metadata={"help": "Rollout files hold their pictures every so many optimizer steps; 0: never."}
    )
