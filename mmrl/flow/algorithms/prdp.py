"""PRDP (2402.08714): the difference of two pictures' log-ratios must be that of their rewards."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.flow.algorithms.base import Algorithm, Drawn
from mmrl.flow.networks import Networks
from mmrl.flow.policy_gradient import proximal_difference_loss
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.sampling import replayed


class Prdp(Algorithm):
    """`beta`: how many rewards make a log-ratio of 1, which is a mean over latent dimensions. `eps`: how far the
    log-ratio of a step may move from that of the policy that drew.

    The advantages take the place of the rewards. With the estimator `dr_grpo` their differences are the rewards'.
    """

    noise: PositiveFloat = 0.7
    beta: PositiveFloat = 10.0
    eps: Annotated[float, Field(gt=0)] = 0.05

    def levels(self, networks: Networks, steps: int) -> list[float]:
        """The noise of each step."""
        return [self.noise] * steps

    @property
    def copies(self) -> list[str]:
        """The model of the beginning, to which the log-ratios are taken."""
        return ["anchor"]

    def check_group(self, group: int) -> None:
        """InputError for groups that are no pairs."""
        super().check_group(group)
        if group % 2:
            raise InputError(f"flow.num_generations={group}; prdp compares pairs and needs an even number")

    def loss(
        self, policy: PicturePolicy, networks: Networks, drawn: Drawn, advantage_TN: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The pairs are the pictures 2i and 2i + 1 of a prompt."""
        trajectory = drawn.trajectory
        places = range(len(trajectory.times) - 1)
        with torch.no_grad():
            first = replayed(policy.using(networks.copies["anchor"]), drawn.condition, trajectory, places)
        first_TN = torch.stack([step.log_density_N for step in first])
        now_TN = torch.stack([step.log_density_N for step in replayed(policy, drawn.condition, trajectory, places)])
        ratio_TN, snapshot_TN = now_TN - first_TN, trajectory.drawn_TN - first_TN
        loss = proximal_difference_loss(ratio_TN, snapshot_TN, advantage_TN[0], beta=self.beta, eps=self.eps)
        return loss, {"prdp/log_ratio": ratio_TN.detach().sum(dim=0).mean().item()}
