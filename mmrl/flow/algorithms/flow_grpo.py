"""Flow-GRPO (2505.05470): stochastic steps have densities, and so a clipped policy gradient."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from mmrl.flow.algorithms.base import Algorithm, Drawn
from mmrl.flow.networks import Networks
from mmrl.flow.policy_gradient import clipped_loss
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.process import noise_scale, step_kl
from mmrl.model.flow.sampling import replayed


class FlowGrpo(Algorithm):
    """`noise`: that of the steps. `anchor`: the weight of the KL divergence to the model that the run began with, in
    the form of the released code. `clip`: how far a ratio counts on both sides. `share`: how many of the steps are
    learned from, from the noise on; the release has 0.99, which leaves out the last one."""

    noise: PositiveFloat = 0.7
    anchor: Annotated[float, Field(ge=0)] = 0.04
    clip: PositiveFloat = 1e-4
    share: Annotated[float, Field(gt=0, le=1)] = 1.0

    def levels(self, networks: Networks, steps: int) -> list[float]:
        """The noise of each step."""
        return [self.noise] * steps

    @property
    def copies(self) -> list[str]:
        """With an anchor, the model of the beginning."""
        return ["anchor"] if self.anchor else []

    def loss(
        self, policy: PicturePolicy, networks: Networks, drawn: Drawn, advantage_TN: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The mean over the steps, which one forward scores again."""
        trajectory = drawn.trajectory
        count = max(1, int(self.share * len(trajectory.levels)))
        now, drawn_TN = replayed(policy, drawn.condition, trajectory, range(count)), trajectory.drawn_TN[:count]
        steps = zip(now, drawn_TN, advantage_TN[:count].expand_as(drawn_TN), strict=True)
        losses = [clipped_loss(step.log_density_N, old_N, mine_N, clip=self.clip) for step, old_N, mine_N in steps]
        loss = torch.stack(losses).mean()
        if not self.anchor:
            return loss, {}
        with torch.no_grad():
            first = replayed(policy.using(networks.copies["anchor"]), drawn.condition, trajectory, range(count))
        moments = list(zip(pairwise(trajectory.times), trajectory.levels, strict=True))[:count]
        scales = [noise_scale(*times, level) for times, level in moments]
        apart = zip(now, first, scales, strict=True)
        kl = torch.stack([step_kl(step.mean, other.mean, scale).mean() for step, other, scale in apart]).mean()
        return loss + self.anchor * kl, {"kl": kl.item()}
