"""DenseGRPO (2601.20218): each step is judged by what it adds to the picture that its latent leads to."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mmrl.flow.algorithms.flow_grpo import FlowGrpo
from mmrl.flow.networks import Networks
from mmrl.flow.policy_gradient import adapted_levels

Share = Annotated[float, Field(ge=0, lt=1)]


class DenseGrpo(FlowGrpo):
    """As Flow-GRPO. `rate`: how far the noise of a step moves after a batch, up where gains and losses are about
    equally many (shares that differ by less than `balance`), down elsewhere; 0 leaves it."""

    dense: ClassVar[bool] = True
    rate: Share = 0.05
    balance: Share = 0.5

    def prepare(self, networks: Networks, steps: int) -> None:
        """The noise of each step is a part of checkpoints."""
        networks.register_buffer("levels", torch.full((steps,), self.noise))

    def levels(self, networks: Networks, steps: int) -> list[float]:
        """As they are now."""
        return networks.get_buffer("levels").tolist()

    def learn(self, networks: Networks, gain_TN: Tensor) -> None:
        """Move them."""
        if self.rate:
            now = networks.get_buffer("levels")
            now.copy_(adapted_levels(now, gain_TN.to(now.device), rate=self.rate, balance=self.balance))
