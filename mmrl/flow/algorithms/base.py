"""What an algorithm must say: which network draws, with how much noise, and the loss on what was drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mmrl.core.config import Config, InputError
from mmrl.flow.networks import Networks
from mmrl.model.flow.policy import Condition, PicturePolicy
from mmrl.model.flow.sampling import Trajectory, generator

TRAINED = "trained"
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Whole groups of N samples, those of a prompt next to each other. All that is random of a sample comes from its
    key."""

    condition: Condition
    trajectory: Trajectory
    keys: Sequence[Key]
    group: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def clean(self) -> Tensor:
        """The latents of the pictures."""
        return self.trajectory.clean

    def generators(self, use: str) -> list[torch.Generator]:
        """A generator for each sample, for one use."""
        return [generator(use, *key) for key in self.keys]


class Algorithm(Config, ABC):
    """Options of an algorithm. `draws_by` is the network that makes the pictures. A `dense` one has an advantage for
    each step, from the gain of the picture that the latent leads to."""

    draws_by: ClassVar[str] = TRAINED
    dense: ClassVar[bool] = False

    def check_group(self, group: int) -> None:
        """InputError for a number of pictures of a prompt that cannot be compared."""
        if group < 2:
            raise InputError(f"flow.num_generations={group}; a group needs at least 2 pictures to compare")

    def prepare(self, networks: Networks, steps: int) -> None:
        """Give the networks what the algorithm keeps in checkpoints, for trajectories of so many steps."""

    def levels(self, networks: Networks, steps: int) -> list[float]:
        """The noise of each step; 0 follows the flow itself."""
        return [0.0] * steps

    def learn(self, networks: Networks, gain_TN: Tensor) -> None:
        """Take note of the gains of a dense batch, of all processes."""

    @property
    def copies(self) -> list[str]:
        """The frozen copies of the network that the algorithm wants; they begin as the network does."""
        return []

    def decays(self, step: int) -> dict[str, float]:
        """The share of their own weights that copies keep after optimizer step `step`, from 0 on."""
        return {}

    @abstractmethod
    def loss(
        self, policy: PicturePolicy, networks: Networks, drawn: Drawn, advantage_TN: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """(the loss, numbers to log); `policy` has the network that learns, as the trainer has wrapped it. There is one
        row of advantages for all steps, or one for each step of a dense algorithm."""
