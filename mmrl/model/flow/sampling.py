"""Trajectories of a flow policy: drawn step by step with their log-densities, and scored again under other weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from data_engine.seeding import digest
from mmrl.model.flow.process import Draws, at, gaussian, log_density, step


class FlowPolicy(Protocol):
    """What predicts velocities: (latents, their times, what they are made of) -> velocities."""

    def velocity(self, latent_NSC: Tensor, time_N: Tensor, condition: Any, /) -> Tensor:
        """[N, ...]: the velocity at each latent."""
        ...


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The latents at T + 1 `times`, from noise to the clean one; of the T steps between the log-densities and the
    levels of noise."""

    times: list[float]
    latents: list[Tensor]
    drawn_TN: Tensor
    levels: list[float]

    @property
    def clean(self) -> Tensor:
        """The last latent."""
        return self.latents[-1]

    def of(self, place: int) -> list[Tensor]:
        """The latents [1, ...] of one sample, from noise to the clean one."""
        return [latent[place : place + 1] for latent in self.latents]


@torch.no_grad()
def sampled(
    policy: FlowPolicy,
    condition: Any,
    noise: Tensor,
    times: list[float],
    *,
    level: float | Sequence[float] = 0.7,
    generator: Draws = None,
) -> Trajectory:
    """Draw a trajectory; `level`, for all steps or for each, is 0 where a step follows the flow itself: such a step has
    no density (zeros)."""
    latents, drawn = [noise], []
    levels = [float(level)] * (len(times) - 1) if isinstance(level, int | float) else list(level)
    for (time, following), level in zip(pairwise(times), levels, strict=True):
        velocity = policy.velocity(latents[-1], at(time, latents[-1]), condition)
        mean, std = step(latents[-1], velocity, time, following, level=level)
        latents.append(mean + std * gaussian(mean, generator) if std else mean)
        drawn.append(log_density(latents[-1], mean, std) if std else torch.zeros(len(mean), device=mean.device))
    return Trajectory(times, latents, torch.stack(drawn), levels)


@dataclass(frozen=True, slots=True)
class Replay:
    """A step of a trajectory under other weights: its log-densities [N], its mean and its standard deviation."""

    log_density_N: Tensor
    mean: Tensor
    std: float


def replayed(policy: FlowPolicy, condition: Any, trajectory: Trajectory, places: Sequence[int]) -> list[Replay]:
    """The steps at `places` of a trajectory under the policy's weights now, all in one forward.

    `condition` has a method `tiled`, which repeats its samples as a whole.
    """
    if not all(trajectory.levels[place] for place in places):
        raise ValueError("a step without noise has no density; sample it with a level above 0")
    before = [trajectory.latents[place] for place in places]
    times_TN = [at(trajectory.times[place], latent) for place, latent in zip(places, before, strict=True)]
    velocity = policy.velocity(torch.cat(before), torch.cat(times_TN), condition.tiled(len(places)))
    replays = []
    for place, latent, part in zip(places, before, velocity.chunk(len(places)), strict=True):
        time, following = trajectory.times[place : place + 2]
        mean, std = step(latent, part, time, following, level=trajectory.levels[place])
        replays.append(Replay(log_density(trajectory.latents[place + 1], mean, std), mean, std))
    return replays


def generator(*key: object) -> torch.Generator:
    """A generator whose draws depend on the key alone."""
    return torch.Generator().manual_seed(int(digest(*key)[:15], 16))
