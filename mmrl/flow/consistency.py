"""ControlNet++ (2404.07987): the condition read from the predicted clean picture must be the one that was asked for.

One forward from a noised training picture gives the prediction, so that no sampling chain is differentiated.
"""

from __future__ import annotations

from torch import Tensor


def predicted_clean(noisy: Tensor, predicted_noise: Tensor, kept: float) -> Tensor:
    """x_0 = (x_t - sqrt(1 - kept) e) / sqrt(kept) of a diffusion model, where `kept` is alpha-bar at t.

    Flow models have `mmrl.model.flow.process.clean_from`.
    """
    return (noisy - (1 - kept) ** 0.5 * predicted_noise) / kept**0.5


def consistency_loss(
    diffusion_loss: Tensor, reward_loss_N: Tensor, time_N: Tensor, *, latest: float = 200, weight: float = 0.5
) -> Tensor:
    """diffusion loss + weight * the mean reward loss of the samples with a time of at most `latest`.

    Later, noisier predictions are too blurred to read a condition from. Without any such sample the second term is 0.
    Weights of the paper: 0.5 for segmentation and line drawings, 1 for edges and depth.
    """
    early_N = (time_N <= latest).to(reward_loss_N)
    return diffusion_loss + weight * (early_N * reward_loss_N).sum() / (early_N.sum() + 1e-10)
