"""The noising process of a rectified flow, and a step back: its own, or a stochastic one of equal marginals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def noised(clean: Tensor, noise: Tensor, time_N: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t e, at a time of its own for each sample."""
    time = spread_out(time_N, clean)
    return (1 - time) * clean + time * noise


def clean_from(latent: Tensor, velocity: Tensor, time_N: Tensor) -> Tensor:
    """The clean latent that a velocity points at: x_0 = x_t - t v."""
    return latent - spread_out(time_N, latent) * velocity


def spread_out(value_N: Tensor, like: Tensor) -> Tensor:
    """[N] as [N, 1, ...], to be multiplied with latents."""
    return value_N.to(like).reshape(-1, *[1] * (like.dim() - 1))


def noise_scale(time: float, following: float, level: float) -> float:
    """sigma_t = level * sqrt(t / (1 - t)) of the stochastic step (Flow-GRPO, 2505.05470).

    At t = 1, where that is infinite, the 1 - t is that of the `following` time.

    >>> round(noise_scale(0.6, 0.5, 0.7), 7), round(noise_scale(0.2, 0.1, 0.7), 7)
    (0.8573214, 0.35)
    """
    return level * math.sqrt(time / (1 - (following if time >= 1 else time)))


def step(
    latent: Tensor, velocity: Tensor, time: float, following: float, *, level: float = 0.7
) -> tuple[Tensor, float]:
    """(mean, standard deviation) of the latent at `following` (Flow-GRPO, 2505.05470, equation 9).

        mean = x (1 + s^2 / (2 t) dt) + v (1 + s^2 (1 - t) / (2 t)) dt;   std = s sqrt(-dt);   s = `noise_scale`

    The marginals are those of the flow at every `level`; level 0 is its Euler step, with standard deviation 0.
    """
    scale, change = noise_scale(time, following, level), following - time
    half = scale**2 / (2 * time)
    mean = latent * (1 + half * change) + velocity * (1 + half * (1 - time)) * change
    return mean, scale * math.sqrt(-change)


def log_density(latent: Tensor, mean: Tensor, std: float) -> Tensor:
    """[N]: the Gaussian log-density of a step, in float32, averaged over the latent's dimensions (as released)."""
    gap = ((latent.float() - mean.float()) / std).flatten(1)
    return (-0.5 * gap.square() - math.log(std) - 0.5 * math.log(2 * math.pi)).mean(dim=1)


def step_kl(mean: Tensor, reference: Tensor, std: float) -> Tensor:
    """[N]: the KL divergence between two steps of one standard deviation, averaged over dimensions.

    The released code of Flow-GRPO divides by sigma_t^2 instead of std^2 = sigma_t^2 |dt|; its beta goes with that:
    `step_kl(mean, reference, noise_scale(...))`.
    """
    return ((mean.float() - reference.float()) / std).square().flatten(1).mean(dim=1) / 2


def times(count: int, *, shift: float = 1.0) -> list[float]:
    """`count` + 1 times from 1 to 0, evenly spaced, then moved to the noisy end: shift t / (1 + (shift - 1) t).

    Stable Diffusion 3 has a `shift` of 3.

    >>> times(4)
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    even = [1 - place / count for place in range(count + 1)]
    return [shift * time / (1 + (shift - 1) * time) for time in even]


def squared_error(made: Tensor, target: Tensor) -> Tensor:
    """[N]: the squared difference, averaged over dimensions, in float32."""
    return (made.float() - target.float()).square().flatten(1).mean(dim=1)


def at(time: float, like: Tensor) -> Tensor:
    """[N]: one time for all samples."""
    return torch.full((len(like),), time, device=like.device)


Draws = torch.Generator | Sequence[torch.Generator] | None  # one for all samples, or one for each


def gaussian(like: Tensor, generator: Draws = None) -> Tensor:
    """Noise of the shape of `like`; with a generator for each sample, what a sample gets depends on its own alone."""
    if isinstance(generator, Sequence):
        return torch.stack([gaussian(row, own) for row, own in zip(like, generator, strict=True)])
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like)
