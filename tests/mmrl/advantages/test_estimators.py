"""Estimators on numbers that can be checked by hand, and against TRL's own formulas."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from trl.trainer.utils import nanstd

from mmrl.advantages import dead_groups
from mmrl.advantages.gdpo import gdpo
from mmrl.advantages.grpo import grpo

NAN = float("nan")


def trl_sum_then_normalize(rewards_PGK: Tensor, weights_K: Tensor) -> Tensor:
    rewards_PG = (rewards_PGK * weights_K).nansum(dim=-1)
    return (rewards_PG - rewards_PG.mean(dim=1, keepdim=True)) / (rewards_PG.std(dim=1, keepdim=True) + 1e-4)


def trl_normalize_then_sum(rewards_PGK: Tensor, weights_K: Tensor) -> Tensor:
    mean, std = torch.nanmean(rewards_PGK, dim=1, keepdim=True), nanstd(rewards_PGK, dim=1, keepdim=True)
    mixed_PG = ((rewards_PGK - mean) / (std + 1e-4) * weights_K).nansum(dim=-1)
    return (mixed_PG - mixed_PG.mean()) / (mixed_PG.std() + 1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_without_abstentions_both_equal_trl(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards_PGK = torch.rand(6, 8, 3, generator=generator)
    weights_K = torch.tensor([1.0, 0.5, 0.2])
    assert_close(grpo(rewards_PGK, weights_K), trl_sum_then_normalize(rewards_PGK, weights_K), atol=1e-6, rtol=0)
    assert_close(gdpo(rewards_PGK, weights_K), trl_normalize_then_sum(rewards_PGK, weights_K), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.0, 1.0], [0.0, 0.0], [-0.70711, 0.70711]),
        ([0.0, 1.0], [0.0, 1.0], [-1.41421, 1.41421]),
        ([1.0, 1.0], [0.0, 1.0], [-0.70711, 0.70711]),
        ([0.0, 1.0], [1.0, 0.0], [0.0, 0.0]),
    ],
)
def test_gdpo_keeps_reward_combinations_apart(first: list[float], second: list[float], expected: list[float]) -> None:
    rewards_PGK = torch.tensor([first, second]).T.unsqueeze(0)
    advantages_PG = gdpo(rewards_PGK, torch.ones(2), whiten="none", eps=0.0)
    assert_close(advantages_PG, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_gdpo_paper_example_of_two_groups() -> None:
    first = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    second = [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    rewards_PGK, weights_K = torch.tensor([first, second]), torch.tensor([1.0, 0.5])
    mixed_PG = gdpo(rewards_PGK, weights_K, whiten="none", eps=0.0)
    assert_close(
        mixed_PG,
        torch.tensor([[1.299038, 0.433013, -0.433013, -1.299038], [0.433013, 0.433013, -0.433013, -0.433013]]),
        atol=1e-5,
        rtol=0,
    )
    whitened_PG = mixed_PG / (0.8017837 + 1e-4)
    assert_close(gdpo(rewards_PGK, weights_K, eps=1e-4), whitened_PG, atol=3e-4, rtol=0)


@pytest.mark.parametrize("estimator", [grpo, gdpo])
def test_a_constant_group_has_zero_advantages(estimator: object) -> None:
    rewards_PGK = torch.stack([torch.full((7, 1), 0.7), torch.arange(7.0).unsqueeze(1) / 7])
    advantages_PG = estimator(rewards_PGK, torch.ones(1))  # pyright: ignore[reportCallIssue]
    assert (advantages_PG[0] == 0).all()
    assert (advantages_PG[1] != 0).sum() >= 6


@pytest.mark.parametrize("estimator", [grpo, gdpo])
def test_an_abstention_is_neither_bonus_nor_penalty(estimator: object) -> None:
    base = torch.tensor([[[1.0, 0.2], [1.0, 0.8], [0.0, 0.5], [0.0, 0.5]]])
    missing = base.clone()
    missing[0, 2, 1] = NAN  # its value was the group's mean
    whole = estimator(base, torch.ones(2))  # pyright: ignore[reportCallIssue]
    partial = estimator(missing, torch.ones(2))  # pyright: ignore[reportCallIssue]
    assert_close(partial[0, 2], partial[0, 3], atol=0.05, rtol=0)
    assert (partial.sign() == whole.sign()).all()


@pytest.mark.parametrize("estimator", [grpo, gdpo])
def test_a_rollout_without_any_verdict_gets_zero_and_does_not_move_the_others(estimator: object) -> None:
    rewards_PGK = torch.tensor([[[1.0], [0.0], [NAN]]])
    advantages_PG = estimator(rewards_PGK, torch.ones(1))  # pyright: ignore[reportCallIssue]
    assert advantages_PG[0, 2] == 0
    assert_close(advantages_PG[0, 0], -advantages_PG[0, 1])


def test_a_step_in_which_everything_abstains_is_all_zeros() -> None:
    for estimator in (grpo, gdpo):
        assert (estimator(torch.full((2, 4, 2), NAN), torch.ones(2)) == 0).all()


def test_whitening_by_task_gives_every_task_the_same_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards_PGK = torch.rand(8, 8, 4, generator=generator)
    rewards_PGK[4:, :, 1:] = NAN  # the second task has one reward, the first has four
    tasks = ["many"] * 4 + ["one"] * 4
    by_batch = gdpo(rewards_PGK, torch.ones(4))
    by_task = gdpo(rewards_PGK, torch.ones(4), whiten="task", tasks_P=tasks)
    assert by_batch[:4].std() > 1.5 * by_batch[4:].std()
    assert_close(by_task[:4].std(), by_task[4:].std(), atol=0.01, rtol=0)
    with pytest.raises(ValueError, match="tasks_P"):
        gdpo(rewards_PGK, torch.ones(4), whiten="task")


def test_dead_groups_are_reported_per_reward() -> None:
    rewards_PGK = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[NAN, 0.5], [0.3, 0.5]]])
    assert dead_groups(rewards_PGK).tolist() == [[True, False], [True, True]]
