"""Trajectories of a flow policy: drawn step by step with their log-densities, and scored again under other weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from mmrl.flow.process import at, log_density, step


class FlowPolicy(Protocol):
    """What predicts velocities: (latents, their times, what they are made of) -> velocities."""

    def velocity(self, latent_NSC: Tensor, time_N: Tensor, condition: Any, /) -> Tensor:
        """[N, ...]: the velocity at each latent."""
        ...


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The latents at T + 1 `times`, from noise to the clean one, and the log-densities of the T steps between."""

    times: list[float]
    latents: list[Tensor]
    drawn_TN: Tensor
    level: float

    @property
    def clean(self) -> Tensor:
        """The last latent."""
        return self.latents[-1]


@torch.no_grad()
def sampled(
    policy: FlowPolicy,
    condition: Any,
    noise: Tensor,
    times: list[float],
    *,
    level: float = 0.7,
    generator: torch.Generator | None = None,
) -> Trajectory:
    """Draw a trajectory; `level` 0 follows the flow itself, and its steps have no density (zeros)."""
    latents, drawn = [noise], []
    for time, following in pairwise(times):
        mean, std = _moved(policy, condition, latents[-1], time, following, level)
        jump = (
            torch.randn(mean.shape, generator=generator, device=mean.device).to(mean) if std else torch.zeros_like(mean)
        )
        latents.append(mean + std * jump)
        drawn.append(log_density(latents[-1], mean, std) if std else torch.zeros(len(mean), device=mean.device))
    return Trajectory(times, latents, torch.stack(drawn), level)


def replayed(policy: FlowPolicy, condition: Any, trajectory: Trajectory, place: int) -> tuple[Tensor, Tensor, float]:
    """(log-densities [N], mean, standard deviation) of step `place` of a trajectory under the policy's weights now."""
    if not trajectory.level:
        raise ValueError("a trajectory without noise has no densities; sample it with a level above 0")
    time, following = trajectory.times[place : place + 2]
    mean, std = _moved(policy, condition, trajectory.latents[place], time, following, trajectory.level)
    return log_density(trajectory.latents[place + 1], mean, std), mean, std


def _moved(
    policy: FlowPolicy, condition: Any, latent: Tensor, time: float, following: float, level: float
) -> tuple[Tensor, float]:
    return step(latent, policy.velocity(latent, at(time, latent), condition), time, following, level=level)
