"""ReNO (2406.04312): the noise of a one-step generator is optimised for a differentiable reward; no weight changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def norm_penalty(noise: Tensor) -> Tensor:
    """K = |e|^2 / 2 - (d - 1) log |e|, in float32: the negative log-density of a Gaussian's norm, up to a constant.

    Its minimum is at |e| = sqrt(d - 1). In half precision |e|^2 overflows from about 65,000 dimensions.
    """
    norm = noise.float().norm()
    return norm.square() / 2 - (noise.numel() - 1) * norm.log()


def optimised(
    generate: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    noise: Tensor,
    *,
    steps: int = 50,
    rate: float = 5.0,
    weight: float = 0.01,
    max_norm: float = 0.1,
) -> tuple[Tensor, Tensor, float]:
    """(picture, noise, loss) of the least `loss` on the way, the penalty not counted.

    `generate` makes a picture of a noise in one step, `loss` falls as the reward rises; both are differentiable.
    The settings are the paper's: SGD with Nesterov momentum 0.9 and gradients of a norm of at most `max_norm`.
    """
    noise = noise.detach().clone().requires_grad_(True)
    optimizer = torch.optim.SGD([noise], lr=rate, momentum=0.9, nesterov=True)
    best: tuple[Tensor, Tensor, float] | None = None
    for _ in range(steps):
        picture = generate(noise)
        value = loss(picture)
        if not torch.isfinite(value):
            raise ValueError(f"the loss of the noise is {value.item()}; must be finite")
        if best is None or value.item() < best[2]:
            best = picture.detach(), noise.detach().clone(), value.item()
        (noise.grad,) = torch.autograd.grad(value + weight * norm_penalty(noise), noise)  # of no weight
        torch.nn.utils.clip_grad_norm_([noise], max_norm)
        optimizer.step()
    if best is None:
        raise ValueError(f"steps={steps}; must be at least 1")
    return best
