"""The network that learns, and the frozen copies of it that an algorithm compares it with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Networks(nn.Module):
    """`trained` and its copies in one module, so that a checkpoint holds them all."""

    trained: Any

    def __init__(self, trained: nn.Module, copies: Sequence[str] = ()) -> None:
        super().__init__()
        self.trained = trained
        self.copies = nn.ModuleDict({name: copy.deepcopy(trained).requires_grad_(False).eval() for name in copies})

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """That of the network that learns."""
        return self.trained(*args, **inputs)

    def gradient_checkpointing_enable(self, **_: Any) -> None:
        """That of the network that learns; transformers asks for it by this name."""
        self.trained.enable_gradient_checkpointing()

    @torch.no_grad()
    def follow(self, decays: Mapping[str, float]) -> None:
        """Move copies to the trained weights: each keeps the share `decays` of its own."""
        for name, kept in decays.items():
            pairs = zip(self.copies[name].parameters(), self.trained.parameters(), strict=True)
            for mine, trained in pairs:
                mine.lerp_(trained.to(mine), 1 - kept)


class Snapshots(TrainerCallback):
    """After each optimizer step the copies follow, as the algorithm says for that number of steps."""

    def __init__(self, networks: Networks, algorithm: Any) -> None:
        self.networks, self.algorithm = networks, algorithm

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move them."""
        self.networks.follow(self.algorithm.decays(state.global_step - 1))
