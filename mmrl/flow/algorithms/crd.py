"""CRD, centred reward distillation (2603.14128): pictures by any sampler, learned from on noised copies of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from mmrl.flow import centred_distillation as crd
from mmrl.flow.algorithms.base import Algorithm, Drawn
from mmrl.flow.networks import Networks
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.process import gaussian, noised

EARLIEST, LATEST = 0.05, 0.95  # times at which pictures are noised


class Crd(Algorithm):
    """`times`: noised copies of each picture in a step. `anchor`: the pull to the model that the run began with."""

    draws_by: ClassVar[str] = "sampler"
    times: PositiveInt = 2
    anchor: Annotated[float, Field(ge=0)] = 0.1
    beta: PositiveFloat = 1.0
    clip: PositiveFloat = 5.0
    adaptive: bool = True

    @property
    def copies(self) -> list[str]:
        """The policy of before, the one that draws, and with an anchor the one of the beginning."""
        return ["old", "sampler", *(["anchor"] if self.anchor else [])]

    def decays(self, step: int) -> dict[str, float]:
        """Those of the paper: the old policy follows more and more slowly, the sampler from step 75 on."""
        return {"old": crd.old_decay(step), "sampler": crd.sampling_decay(step)}

    def loss(
        self, policy: PicturePolicy, networks: Networks, drawn: Drawn, advantage_TN: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The centred loss and the anchor's, over all times of all pictures."""
        condition, clean = drawn.condition.tiled(self.times), torch.cat([drawn.clean] * self.times)
        draws = [drawn.generators(f"time {number}") for number in range(self.times)]
        time = torch.cat([torch.rand(1, generator=each) for number in draws for each in number]).to(clean)
        time = EARLIEST + (LATEST - EARLIEST) * time
        noise = torch.cat([gaussian(drawn.clean, number) for number in draws])
        noisy, target = noised(clean, noise, time), noise - clean
        with torch.no_grad():
            others = {
                name: policy.using(networks.copies[name]).velocity(noisy, time, condition)
                for name in self.copies
                if name != self.draws_by
            }
        velocity = policy.velocity(noisy, time, condition)
        implicit = crd.implicit_reward(velocity, others["old"], target, adaptive=self.adaptive)
        reward = crd.scaled_reward(advantage_TN[0], clip=self.clip).repeat(self.times)
        loss = crd.centred_loss(implicit, reward, drawn.group, beta=self.beta, clip=self.clip)
        logs = {"crd/implicit_reward": implicit.detach().mean().item()}
        if self.anchor:
            pull = crd.anchor_loss(velocity, others["anchor"], reward, weight=self.anchor)
            loss, logs = loss + pull, {**logs, "crd/anchor": pull.item()}
        return loss, logs
