"""The network that learns, the frozen copies that an algorithm compares it with, and the average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Networks(nn.Module):
    """`trained`, its copies and the `average` of its weights in one module, so that a checkpoint holds them all.

    Of the weights that do not learn there is no average, and of none if it is not `averaged`.
    """

    trained: Any

    def __init__(self, trained: nn.Module, copies: Sequence[str] = (), *, averaged: bool = False) -> None:
        super().__init__()
        self.trained = trained
        self.average = nn.ParameterList(weight.detach().float().clone() for weight in self._learning() if averaged)
        self.average.requires_grad_(False)
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

    @torch.no_grad()
    def move_average(self, kept: float) -> None:
        """Move the average to the trained weights: it keeps the share `kept` of its own."""
        for mine, weight in zip(self.average, self._learning(), strict=True):
            mine.lerp_(weight.to(mine), 1 - kept)

    @torch.no_grad()
    def take_average(self) -> None:
        """Give the trained network the average of its weights, where there is one."""
        if self.average:
            for mine, weight in zip(self.average, self._learning(), strict=True):
                weight.copy_(mine)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the trained network has the average of its weights, where there is one."""
        if not self.average:
            yield
            return
        own = [weight.detach().clone() for weight in self._learning()]
        self.take_average()
        try:
            yield
        finally:
            for weight, value in zip(self._learning(), own, strict=True):
                weight.data.copy_(value)

    def _learning(self) -> list[nn.Parameter]:
        return [weight for weight in self.trained.parameters() if weight.requires_grad]


def average_decay(steps: int, limit: float) -> float:
    """How much of itself an average keeps after so many optimizer steps: min(steps / (9 + steps), limit), as released
    with Flow-GRPO (2505.05470). It is that of diffusers' EMAModel from its second step on, which copies in its first.

    >>> [round(average_decay(steps, 0.9), 2) for steps in (1, 2, 8, 100)]
    [0.1, 0.18, 0.47, 0.9]
    """
    return min(steps / (9 + steps), limit)


class MovingAverage(TrainerCallback):
    """Every `every` optimizer steps the average of the weights moves, and keeps up to `limit` of its own."""

    def __init__(self, networks: Networks, limit: float, every: int) -> None:
        self.networks, self.limit, self.every = networks, limit, every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move it."""
        if not state.global_step % self.every:
            self.networks.move_average(average_decay(state.global_step, self.limit))


class Snapshots(TrainerCallback):
    """After each optimizer step the copies follow, as the algorithm says for that number of steps."""

    def __init__(self, networks: Networks, algorithm: Any) -> None:
        self.networks, self.algorithm = networks, algorithm

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move them."""
        self.networks.follow(self.algorithm.decays(state.global_step - 1))
