"""Losses of flow policies against the numbers of their papers."""

import pytest
import torch

from mmrl.advantages import ADVANTAGES
from mmrl.flow import centred_distillation as crd
from mmrl.flow.consistency import consistency_loss, predicted_clean
from mmrl.flow.policy_gradient import adapted_levels, clipped_loss, dense_advantages, gains, proximal_difference_loss


def test_flow_grpo_divides_by_the_spread_of_the_whole_batch() -> None:
    rewards = torch.tensor([[0.2, 0.5, 0.8], [0.9, 0.9, 0.9]]).unsqueeze(-1)
    got = ADVANTAGES["flow_grpo"](rewards, torch.ones(1))
    assert got.tolist() == [pytest.approx([-1.133465, 0, 1.133465], abs=1e-5), [0, 0, 0]]


def test_flow_grpo_bounds_an_outlier() -> None:
    rewards = torch.zeros(30, 2, 1)
    rewards[0, 0] = 1.0
    assert ADVANTAGES["flow_grpo"](rewards, torch.ones(1), clip=2.0)[0].tolist() == [2.0, -2.0]


def test_the_clipped_loss_lets_no_gradient_through_beyond_the_bound() -> None:
    drawn = torch.zeros(2)
    log_prob = torch.tensor([1e-3, -1e-3], requires_grad=True)  # already beyond the bound in the advantage's direction
    clipped_loss(log_prob, drawn, torch.tensor([1.0, -1.0])).backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [0, 0]
    assert clipped_loss(drawn, drawn, torch.tensor([1.0, 0.5])).item() == pytest.approx(-0.75)


def test_gains_add_up_to_what_the_trajectory_gained() -> None:
    got = gains(torch.tensor([0.1, 0.15, 0.4, 0.38, 0.7]).unsqueeze(1))
    assert got.flatten().tolist() == pytest.approx([0.05, 0.25, -0.02, 0.32])
    assert got.sum().item() == pytest.approx(0.6)


def test_dense_advantages_are_standardised_at_each_step() -> None:
    gain_TN = torch.tensor([[0.05, 0.02], [-0.01, 0.08], [0.02, -0.02]]).T
    got = dense_advantages(gain_TN, 3, eps=0, ddof=0)
    assert got[0].tolist() == pytest.approx([1.2247449, -1.2247449, 0], abs=1e-5)
    assert got[1].tolist() == pytest.approx([-0.1622214, 1.2977714, -1.1355499], abs=1e-5)
    assert dense_advantages(torch.full((1, 3), 0.4), 3).tolist() == [[0, 0, 0]]


def test_a_step_that_only_loses_takes_less_noise_and_a_balanced_one_more() -> None:
    gain_TN = torch.tensor([[0.1, -0.1, 0.2, -0.2], [-0.1, -0.2, -0.3, -0.1]])
    assert adapted_levels(torch.tensor([0.7, 0.7]), gain_TN, rate=0.1).tolist() == pytest.approx([0.77, 0.63])


def test_prdp_takes_the_larger_of_the_free_and_the_bounded_loss() -> None:
    ratio_TN = torch.tensor([[0.10, -0.02], [-0.05, 0.03]], requires_grad=True)
    snapshot_TN = torch.tensor([[0.02, -0.02], [-0.01, 0.01]])
    loss = proximal_difference_loss(ratio_TN, snapshot_TN, torch.tensor([0.6, 0.0]), beta=10, eps=0.05)
    assert loss.item() == pytest.approx(0.0025, abs=1e-6)
    loss.backward()
    assert ratio_TN.grad is not None
    assert ratio_TN.grad[0, 0] == 0  # the bounded entry
    assert (ratio_TN.grad.flatten()[1:] != 0).all()


ONE_PROMPT = {
    "clean": [1.0, -1.0, 0.5],
    "noise": [0.2, 0.3, -0.4],
    "velocity": [-0.7, 1.1, -0.8],
    "old": [-0.6, 1.2, -1.0],
}


def test_crd_follows_centred_rewards() -> None:
    clean, noise, velocity, old = (torch.tensor(values).unsqueeze(1) for values in ONE_PROMPT.values())
    plain = crd.implicit_reward(velocity, old, noise - clean, adaptive=False)
    assert plain.tolist() == pytest.approx([0.03, -0.03, 0], abs=1e-6)
    adaptive = crd.implicit_reward(velocity, old, noise - clean)
    assert adaptive.tolist() == pytest.approx([0.1, -0.1, 0], abs=1e-6)
    reward = crd.scaled_reward(torch.tensor([1.2, -0.6, -0.6]))
    assert reward.tolist() == pytest.approx([0.62, 0.44, 0.44])
    assert crd.centred_loss(plain, reward, 3).item() == pytest.approx(0.021, abs=1e-6)


def test_the_anchor_pulls_hardest_on_good_samples() -> None:
    velocity, reward = torch.tensor([0.02, 0.01, 0.03]).sqrt().unsqueeze(1), torch.tensor([0.62, 0.44, 0.44])
    assert crd.anchor_loss(velocity, torch.zeros(3, 1), reward).item() == pytest.approx(0.001001, abs=1e-6)
    assert crd.anchor_loss(velocity, torch.zeros(3, 1), torch.ones(3)).item() == pytest.approx(0.002)
    assert crd.anchor_loss(velocity, torch.zeros(3, 1), reward, weight=0).item() == 0


def test_snapshots_slow_down() -> None:
    assert [crd.old_decay(steps) for steps in (0, 50, 150, 300)] == pytest.approx([0.25, 0.5, 0.999, 0.999])
    assert [crd.sampling_decay(steps) for steps in (50, 75, 100, 300)] == pytest.approx([0, 0, 0.1875, 0.999])


def test_the_predicted_picture_of_a_diffusion_model() -> None:
    noisy = torch.tensor(0.9**0.5 * 1 + 0.1**0.5 * 0.5)
    assert noisy.item() == pytest.approx(1.1067972)
    assert predicted_clean(noisy, torch.tensor(0.4), 0.9).item() == pytest.approx(1.0333333)


def test_the_consistency_term_counts_early_times_only() -> None:
    times, losses = torch.tensor([50, 200, 201, 900]), torch.tensor([0.4, 0.2, 0.9, 0.7])
    assert consistency_loss(torch.tensor(0.1), losses, times).item() == pytest.approx(0.25)
    assert consistency_loss(torch.tensor(0.1), losses[:2], torch.tensor([500, 900])).item() == pytest.approx(0.1)
