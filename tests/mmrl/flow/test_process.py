"""Steps of a flow on numbers: published equations by hand, and a Gaussian whose exact velocity is known."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mmrl.model.flow.process import at, clean_from, log_density, noise_scale, noised, step, step_kl, times


@pytest.mark.parametrize(
    ("time", "following", "mean", "std", "density"),
    [(0.6, 0.5, 0.68875, 0.2711088, 0.3412964), (0.2, 0.1, 0.71325, 0.1106797, 1.2371761)],
)
def test_a_step_has_the_mean_spread_and_density_of_flow_grpo(
    time: float, following: float, mean: float, std: float, density: float
) -> None:
    got, spread = step(torch.tensor([[0.8]]), torch.tensor([[0.5]]), time, following)
    assert got.item() == pytest.approx(mean, abs=1e-5)
    assert spread == pytest.approx(std, abs=1e-6)
    assert log_density(got + 0.3 * spread, got, spread).item() == pytest.approx(density, abs=1e-5)


def test_without_noise_a_step_is_eulers() -> None:
    mean, std = step(torch.tensor([[0.8]]), torch.tensor([[0.5]]), 0.6, 0.5, level=0)
    assert (mean.item(), std) == (pytest.approx(0.75), 0)


def test_the_divergence_of_two_steps_is_exact_or_as_released() -> None:
    means = [step(torch.tensor([[0.8]]), torch.tensor([[velocity]]), 0.6, 0.5) for velocity in (0.5, 0.45)]
    (mean, std), (other, _) = means
    assert step_kl(mean, other, std).item() == pytest.approx(2.636097e-4, rel=1e-4)
    assert step_kl(mean, other, noise_scale(0.6, 0.5, 0.7)).item() == pytest.approx(2.636097e-5, rel=1e-4)


def test_densities_and_divergences_are_means_over_dimensions() -> None:
    mean, wide = torch.zeros(2, 1), torch.zeros(2, 3, 4, 4)
    assert log_density(wide + 0.5, wide, 2.0).tolist() == pytest.approx(log_density(mean + 0.5, mean, 2.0).tolist())
    assert step_kl(wide + 0.5, wide, 2.0).tolist() == pytest.approx([0.03125] * 2)


def test_the_clean_latent_comes_back_from_its_exact_velocity() -> None:
    clean, noise = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    time = torch.tensor([0.25, 0.8])
    assert torch.allclose(clean_from(noised(clean, noise, time), noise - clean, time), clean, atol=1e-6)


def test_times_run_from_noise_to_the_picture_and_shift_to_the_noisy_end() -> None:
    assert times(2, shift=3.0) == [1.0, 0.75, 0.0]
    assert at(0.25, torch.zeros(3, 1)).tolist() == [0.25] * 3


def exact_velocity(latent: Tensor, time: float, mean: float, std: float) -> Tensor:
    """The velocity of data that are Gaussian."""
    variance = (1 - time) ** 2 * std**2 + time**2
    gap = latent - (1 - time) * mean
    return time / variance * gap - (mean + (1 - time) * std**2 / variance * gap)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_with_and_without_noise_the_marginals_are_those_of_the_data(level: float) -> None:
    generator = torch.Generator().manual_seed(0)
    latent, grid = torch.randn(200_000, generator=generator), times(400)
    for time, following in pairwise(grid):
        mean, std = step(latent, exact_velocity(latent, time, 1.0, 0.5), time, following, level=level)
        latent = mean + std * torch.randn(len(latent), generator=generator)
    assert latent.mean().item() == pytest.approx(1.0, abs=1e-2)
    assert latent.std().item() == pytest.approx(0.5, abs=1e-2)
