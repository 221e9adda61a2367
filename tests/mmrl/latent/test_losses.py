"""The losses of latent reasoning against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mmrl.latent.losses import contrastive_loss, policy_loss, prediction_loss, spread
from mmrl.latent.rollouts import foresight
from mmrl.model.latent import log_density

X, Y = [1.0, 0.0], [0.0, 1.0]
NAN = math.nan


def test_the_density_is_that_of_a_gaussian() -> None:
    torch.manual_seed(0)
    latent, mean, log_deviation = torch.randn(3, 4, 5), torch.randn(3, 1, 5), torch.randn(3, 1, 5)
    expected = torch.distributions.Normal(mean, log_deviation.exp()).log_prob(latent).sum(dim=-1)
    assert torch.allclose(log_density(latent, mean, log_deviation), expected, atol=1e-5)


def test_a_better_thought_pulls_the_mean_to_itself() -> None:
    """The gradient of the mean is -A (z - mean) / deviation^2 / count."""
    mean = torch.zeros(1, 1, 1, requires_grad=True)
    thoughts = torch.tensor([[2.0, -1.0]]).view(1, 2, 1)
    policy_loss(
        log_density(thoughts, mean, torch.full_like(mean, math.log(2.0))), torch.tensor([[1.0, -1.0]])
    ).backward()
    assert mean.grad is not None
    assert mean.grad.item() == pytest.approx(-(2.0 - -1.0) / 4 / 2)


def test_the_contrast_of_two_questions() -> None:
    """Questions x and y. Of x the thoughts x (good) and y; of y the thoughts y (good) and x; temperature 1."""
    asked, meant = torch.tensor([X, Y]), torch.tensor([[X, Y], [Y, X]])
    good = torch.tensor([[True, False], [True, False]])
    e = math.e
    of_question = -math.log(e / (2 * e + 2))
    of_thought = -math.log(e / (e + 1))
    expected = 0.5 * (of_question + of_thought)
    assert contrastive_loss(asked, meant, good, 1.0).item() == pytest.approx(expected)


def test_lengths_do_not_count_and_the_temperature_sharpens() -> None:
    asked, meant = torch.tensor([X, Y]), torch.tensor([[X, Y], [Y, X]])
    good = torch.tensor([[True, False], [True, False]])
    longer = contrastive_loss(asked * 3, meant * 7, good, 0.5)
    e = math.e**2
    assert longer.item() == pytest.approx(0.5 * (-math.log(e / (2 * e + 2)) - math.log(e / (e + 1))))


@pytest.mark.parametrize("good", [[[True, True]], [[False, False]]])
def test_a_question_whose_thoughts_are_alike_tells_nothing(good: list[list[bool]]) -> None:
    asked = torch.tensor([X], requires_grad=True)
    loss = contrastive_loss(asked, torch.tensor([[X, Y]]), torch.tensor(good), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert asked.grad is not None
    assert not asked.grad.any()


def test_a_question_whose_thoughts_are_alike_is_left_out_of_a_batch_that_has_others() -> None:
    asked, meant = torch.tensor([X, Y]), torch.tensor([[X, Y], [Y, Y]])
    both = contrastive_loss(asked, meant, torch.tensor([[True, False], [True, True]]), 1.0)
    e = math.e
    of_question, of_thought = -math.log(e / (e + 3)), -math.log(e / (e + 1))
    assert both.item() == pytest.approx(0.5 * (of_question + of_thought))


def test_good_thoughts_are_apart_up_to_a_cap() -> None:
    """Distances are root mean squares: 5 / sqrt(2) between the first two; the third is not good."""
    latent = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [90.0, 0.0]]])
    good = torch.tensor([[True, True, False]])
    assert spread(latent, good, cap=9.0).item() == pytest.approx(5 / math.sqrt(2))
    assert spread(latent, good, cap=2.0).item() == 2.0
    assert spread(latent, torch.tensor([[True, False, False]]), cap=2.0).item() == 0.0


def test_equal_thoughts_have_a_finite_gradient() -> None:
    latent = torch.zeros(1, 2, 3, requires_grad=True)
    spread(latent, torch.tensor([[True, True]]), cap=2.0).backward()
    assert latent.grad is not None
    assert latent.grad.isfinite().all()


def test_predictions_are_compared_within_a_group_and_only_where_there_is_a_reward() -> None:
    predicted = torch.tensor([[5.0, 7.0, 100.0], [0.0, 0.0, 0.0]])
    reward = torch.tensor([[0.0, 1.0, NAN], [NAN, NAN, NAN]])
    assert prediction_loss(predicted, reward).item() == pytest.approx((0.5**2 + 0.5**2) / 2)


@pytest.mark.parametrize("reward", [[NAN] * 3, [NAN, 1.0, NAN], [0.5, 0.5, NAN]])
def test_a_group_without_different_rewards_has_no_rank_correlation(reward: list[float]) -> None:
    predicted, told = [1.0, 2.0, 3.0], [0.0, 0.2, 0.5]
    assert foresight(torch.tensor([predicted]), torch.tensor([reward])) == {}
    both = foresight(torch.tensor([predicted] * 2), torch.tensor([reward, told]))
    assert both == {"latent/rank_correlation": pytest.approx(1)}
