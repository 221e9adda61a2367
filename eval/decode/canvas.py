"""The view of decoding methods on a policy that makes pictures: they draw, step, score and finish those of one draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from eval.decode.policy import Scores, SuiteGuide
from eval.generation import Draw
from mmrl.core.media.pictures import as_media
from mmrl.model.flow.pictures import instruction_of, resized, right_of, row_of, sources_of
from mmrl.model.flow.policy import Condition, PicturePolicy
from mmrl.model.flow.process import at, gaussian, step
from mmrl.model.flow.sampling import generator, sampled
from rewards import Rollout

Key = tuple[object, ...]


class Canvas:
    """A policy with the `condition` of one draw. `spent` counts evaluations of the network and calls of rewards.
    Rewards see pictures in `shown_size`. Up to `batch` pictures go into one forward.

    Latents are [N, S, C]: N pictures, S tokens of C channels.
    """

    def __init__(
        self,
        policy: PicturePolicy,
        condition: Condition,
        times: list[float],
        draw: Draw,
        *,
        key: Key,
        level: float,
        guide: SuiteGuide,
        shown_size: tuple[int, int],
        batch: int = 16,
    ) -> None:
        self._policy, self._condition, self._times, self._draw = policy, condition, times, draw
        self._key, self._level, self._guide, self._batch = key, level, guide, batch
        self._shown_size = shown_size
        self.spent: dict[str, float] = {"evaluations": 0, "reward_calls": 0}

    @property
    def steps(self) -> int:
        """The number of steps from noise to a picture."""
        return len(self._times) - 1

    def stream(self, *place: object) -> torch.Generator:
        """Random numbers that depend on the draw and on `place` alone."""
        return generator("picture", *self._key, *place)

    def noise(self, stream: torch.Generator) -> Tensor:
        """[1, S, C]: the noise that a picture begins with."""
        return self._policy.noise(self._condition, [stream])

    def made(self, count: int) -> Tensor:
        """[count, S, C]: the clean latents of as many pictures, drawn independently of each other."""
        parts = []
        for start in range(0, count, self._batch):
            streams = [self.stream("candidate", place) for place in range(start, min(start + self._batch, count))]
            condition = self._condition.repeated(len(streams))
            noise = self._policy.noise(condition, streams)
            drawn = sampled(self._policy, condition, noise, self._times, level=self._level, generator=streams)
            parts.append(drawn.clean)
            self.spent["evaluations"] += len(streams) * self.steps
        return torch.cat(parts)

    @torch.no_grad()
    def stepped(self, latent: Tensor, place: int, stream: torch.Generator) -> Tensor:
        """The latent after step `place`, from 0 on, with noise of its own."""
        self.spent["evaluations"] += 1
        time, following = self._times[place : place + 2]
        velocity = self._policy.velocity(latent, at(time, latent), self._condition)
        mean, std = step(latent, velocity, time, following, level=self._level)
        return mean + std * gaussian(mean, stream)

    def flowed(self, noise: Tensor) -> Tensor:
        """The clean latent that the flow itself makes of a noise, with a gradient."""
        latent = noise
        for time, following in pairwise(self._times):
            self.spent["evaluations"] += 1
            velocity = self._policy.velocity(latent, at(time, latent), self._condition)
            latent, _ = step(latent, velocity, time, following, level=0)
        return latent

    def rewards(self, clean: Tensor) -> Scores:
        """The reward of the picture of each clean latent, None for no verdict."""
        self.spent["reward_calls"] += len(clean)
        pictures = self._policy.pictures(clean, self._condition.repeated(len(clean)))
        shown = [as_media(resized(picture, self._shown_size)) for picture in pictures]
        return self._guide.of([replace(self._asked(), made=[media]) for media in shown])

    def reward(self, clean: Tensor) -> float:
        """The reward of one picture; InputError without a verdict."""
        [score] = self.rewards(clean)
        assert score is not None  # the guide refuses that
        return score

    def reward_of(self, score: Callable[[Tensor, Rollout], Tensor]) -> Callable[[Tensor], Tensor]:
        """The reward of clean latents, [N] with a gradient, from one of pixels [N, 3, H, W]."""
        asked = self._asked()

        def rewarded(clean: Tensor) -> Tensor:
            self.spent["reward_calls"] += len(clean)
            return score(self._policy.pixels(clean, self._condition), asked)

        return rewarded

    def _asked(self) -> Rollout:
        """What the guide sees beside a picture: the gold only if it may."""
        sample, row = self._draw.sample, row_of(self._draw.sample)
        gold: Any = sample.answer if self._guide.gold else {"instruction": instruction_of(row)}
        return Rollout(
            "",
            gold,
            sample.task,
            sample.prompt,
            sources_of(row),
            meta=sample.meta,
            group=sample.id,
            gold_media=right_of(row) if self._guide.gold else (),
        )
