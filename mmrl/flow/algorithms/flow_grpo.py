"""Flow-GRPO (2505.05470): stochastic steps have densities, and so a clipped policy gradient."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from mmrl.flow.algorithms.base import Algorithm, Drawn
from mmrl.flow.kontext import KontextPolicy
from mmrl.flow.networks import Networks
from mmrl.flow.policy_gradient import clipped_loss
from mmrl.flow.process import noise_scale, step_kl
from mmrl.flow.sampling import replayed


class FlowGrpo(Algorithm):
    """`noise`: that of the steps. `anchor`: the weight of the KL divergence to the model that the run began with, in
    the form of the released code. `clip`: how far a ratio counts on both sides."""

    noise: PositiveFloat = 0.7
    anchor: Annotated[float, Field(ge=0)] = 0.04
    clip: PositiveFloat = 1e-4

    @property
    def level(self) -> float:
        """The noise of the steps."""
        return self.noise

    @property
    def copies(self) -> list[str]:
        """With an anchor, the model of the beginning."""
        return ["anchor"] if self.anchor else []

    def loss(
        self, policy: KontextPolicy, networks: Networks, drawn: Drawn, advantage_N: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The mean over all steps, which one forward scores again."""
        trajectory = drawn.trajectory
        places = range(len(trajectory.times) - 1)
        now = replayed(policy, drawn.condition, trajectory, places)
        pairs = zip(now, trajectory.drawn_TN, strict=True)
        loss = torch.stack(
            [clipped_loss(step.log_density_N, old_N, advantage_N, clip=self.clip) for step, old_N in pairs]
        ).mean()
        if not self.anchor:
            return loss, {}
        with torch.no_grad():
            first = replayed(policy.using(networks.copies["anchor"]), drawn.condition, trajectory, places)
        scales = [noise_scale(time, following, self.noise) for time, following in pairwise(trajectory.times)]
        apart = zip(now, first, scales, strict=True)
        kl = torch.stack([step_kl(step.mean, other.mean, scale).mean() for step, other, scale in apart]).mean()
        return loss + self.anchor * kl, {"kl": kl.item()}
