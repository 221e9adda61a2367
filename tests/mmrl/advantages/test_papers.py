"""Estimators on the numbers that their papers and code give."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmrl.advantages import ADVANTAGES
from mmrl.advantages.gcpo import gcpo
from mmrl.advantages.gdpo import c_gdpo, gdpo
from mmrl.advantages.grpo import dr_grpo, grpo
from mmrl.advantages.grpo_s import grpo_s
from mmrl.advantages.rloo import rloo
from mmrl.advantages.tmn import tmn
from mmrl.advantages.visurf import visurf
from mmrl.core.config import InputError

NAN = float("nan")
ONE = np.ones(1)


def groups(*rewards: list[float]) -> np.ndarray:
    """[P, G, 1]."""
    return np.array(rewards)[..., None]


CAPTIONS = np.array([[[0.6, 0.5, 0.8], [0.8, 0.5, 0.9], [0.4, 0.75, 0.8], [0.6, 0.25, 0.0]]])


def test_c_gdpo_and_grpo_on_three_continuous_rewards() -> None:
    expected = [[0.417338, 1.880561, 0.417338, -2.715236]]
    assert_allclose(c_gdpo(CAPTIONS, np.ones(3), eps=0.0), expected, atol=1e-5)
    assert_allclose(gdpo(CAPTIONS, np.ones(3), eps=0.0, whiten="none"), expected, atol=1e-5)
    assert_allclose(grpo(CAPTIONS, np.ones(3), eps=0.0), [[0.292685, 0.794430, 0.376309, -1.463424]], atol=1e-5)


def test_grpo_with_either_standard_deviation() -> None:
    scores = groups([7.0, 8, 5, 6])
    assert_allclose(grpo(scores, ONE, eps=0.0), [[0.387298, 1.161894, -1.161894, -0.387298]], atol=1e-5)
    assert_allclose(grpo(scores, ONE, eps=0.0, ddof=0), [[0.447213, 1.341640, -1.341640, -0.447213]], atol=1e-5)


def test_gdpo_cancels_opposite_rewards_of_equal_weight_only() -> None:
    opposite = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    assert (gdpo(opposite, np.ones(2), eps=0.0) == 0).all()
    got = gdpo(opposite, np.array([2.0, 1.0]), eps=0.0, whiten="none")
    assert_allclose(got, [[0.57735, 0.57735, -1.154701]], atol=1e-5)


def test_dr_grpo_and_rloo_do_not_divide_by_the_spread() -> None:
    assert_allclose(dr_grpo(groups([1.0, 0, 0, 0]), ONE), [[0.75, -0.25, -0.25, -0.25]])
    assert_allclose(rloo(groups([1.0, 0, 0, 0]), ONE), [[1.0, -1 / 3, -1 / 3, -1 / 3]])
    assert_allclose(rloo(groups([1.0, 0, NAN, 0.5]), ONE), [[0.75, -0.75, 0.0, 0.0]])
    two = np.array([[[1.0, 0.2], [0.0, 0.4], [0.0, 0.9]]])
    total = two @ [1.0, 0.5]
    others = (total.sum(axis=1, keepdims=True) - total) / 2
    assert_allclose(rloo(two, np.array([1.0, 0.5])), total - others)


def test_tmn_on_two_tasks() -> None:
    scores = groups([1.0, 0, 0, 0], [1.0, 1, 1, 0], [0.4, 0.5, 0.6, 0.5])
    tasks = ["qa", "qa", "sum"]
    expected = [
        [1.926034, -0.389400, -0.389400, -0.389400],
        [0.389400, 0.389400, 0.389400, -1.926034],
        [-0.953821, 0, 1.572584, 0],
    ]
    assert_allclose(tmn(scores, ONE, tasks_P=tasks), expected, atol=2e-5)
    plain = tmn(scores, ONE, tasks_P=tasks, gamma=0.0)
    assert_allclose(plain[0], [1.5, -0.5, -0.5, -0.5], atol=1e-5)
    assert_allclose(plain[2], np.array([-0.1, 0, 0.1, 0]) / 0.0816497, atol=2e-5)


def test_grpo_s_scales_grpo() -> None:
    scores, hardness, gaps = groups([0.0, 1, 2]), np.array([[0.2, 0.4, 0.9]]), np.array([[0.5, 0.6, 0.4]])
    got = grpo_s(scores, ONE, hardness_PG=hardness, eps=0.0)
    assert_allclose(got, [[-0.883325, 0.0, 1.142162]], atol=1e-6)
    assert_allclose(grpo_s(scores, ONE, gaps_PG=gaps, eps=0.0), [[-1, 0, 1]])  # no outlier, scale 1
    four = groups([0.0, 1, 2, 3])
    far = grpo_s(four, ONE, gaps_PG=np.array([[0.5, 0.6, 0.4, 3.0]]))
    assert_allclose(far, 0.8245423 * grpo(four, ONE), atol=1e-6)
    assert_allclose(grpo_s(scores, ONE, hardness_PG=np.full((1, 3), NAN)), grpo(scores, ONE))
    with pytest.raises(InputError, match="hardness_PG, gaps_PG or both"):
        grpo_s(scores, ONE)


SIDES = {"pairs_P": ["a", "a"], "preferred_P": [True, False]}


def test_gcpo_compares_both_sides_of_a_pair() -> None:
    third = [[1 / 3, -1 / 3, 0.0], [1 / 3, -1 / 3, 0.0]]
    assert_allclose(gcpo(groups([8.0, 6, 7], [5.0, 7, 6]), ONE, **SIDES), third, atol=1e-9)
    turned = {"pairs_P": ["a", "b", "a", "b"], "preferred_P": [False, False, True, True]}
    scores = groups([5.0, 7, 6], [1.0, 2, 3], [8.0, 6, 7], [7.0, 8, 9])
    assert_allclose(gcpo(scores, ONE, **turned), [third[0], [0] * 3, third[1], [0] * 3], atol=1e-9)
    assert (gcpo(groups([7.0, 8, 9], [1.0, 2, 3]), ONE, **SIDES) == 0).all()
    assert (gcpo(groups([5.0, 5, 5], [5.0, 5, 5]), ONE, **SIDES) == 0).all()  # ties


def test_gcpo_chains_that_fail_lose_and_those_that_abstain_do_not_count() -> None:
    scores = groups([8.0, 6, 9], [5.0, 7, 1])
    failed = np.array([[False, False, True], [False, False, True]])
    got = gcpo(scores, ONE, failed_PG=failed, **SIDES)  # r_w = 1, 1/2, 0; r_l = 1, 1/2, 0
    assert_allclose(got, [[0.5, 0, -0.5], [0.5, 0, -0.5]])
    scores[:, 2] = NAN
    assert_allclose(gcpo(scores, ONE, **SIDES), [[0.25, -0.25, 0], [0.25, -0.25, 0]])


def test_gcpo_leaves_other_rewards_and_other_prompts_alone() -> None:
    rewards = np.array([[[8.0, 1], [6, 0]], [[5, 1], [7, 1]], [[1, 0], [0, 0]]])
    got = gcpo(
        rewards, np.array([1.0, 0.5]), pairs_P=[0, 0, None], preferred_P=[True, False, False], compared_K=[True, False]
    )
    assert_allclose(got, [[0.5, -0.5], [0.25, -0.25], [0.5, -0.5]])


def test_gcpo_refuses_groups_that_are_not_pairs() -> None:
    scores = groups([1.0, 0], [0.0, 1])
    with pytest.raises(InputError, match="needs pairs_P"):
        gcpo(scores, ONE)
    with pytest.raises(ValueError, match="pair 'a' has preferred_P"):
        gcpo(scores, ONE, pairs_P=["a", "a"], preferred_P=[True, True])
    with pytest.raises(ValueError, match="pair 'b' has preferred_P"):
        gcpo(scores, ONE, pairs_P=["b", None], preferred_P=[True, False])


@pytest.mark.parametrize(
    ("rollouts", "unbiased", "population"),
    [
        ([0, 0, 0, 0], [-0.447213] * 4 + [1.788850], 1.999995),
        ([0, 1, 0, 1], [-0.999998, 0.999998, -0.999998, 0.999998, 0], 0),
        ([1, 1, 1, 1], [0] * 5, 0),
        ([0.2, 0.6, 0.4, 0], [-0.623849, 0.415899, -0.103975, -1.143723, 1.455647], 1.627462),
    ],
)
def test_visurf_counts_the_label_as_a_rollout(rollouts: list[float], unbiased: list[float], population: float) -> None:
    rewards, injected = groups([*rollouts, 1.0]), np.array([[False] * 4 + [True]])
    got = visurf(rewards, ONE, injected_PG=injected)
    assert_allclose(got, [unbiased], atol=2e-6)
    assert_allclose(visurf(rewards, ONE, injected_PG=injected, ddof=0)[0, 4], population, atol=2e-6)
    if unbiased[4] == 0:
        assert got[0, 4] == 0


def test_visurf_controls_can_be_switched() -> None:
    injected = np.array([[False, False, True]])
    rewards = np.array([[[1.0, 1], [0, 0], [1, 1]]])  # accuracy, thinking
    smoothed = visurf(rewards, np.ones(2), injected_PG=injected)
    assert smoothed[0, 2] == 0
    plain = visurf(rewards, np.ones(2), injected_PG=injected, smooth=False)
    assert_allclose(plain, [[0.577350, -1.154701, 0.577350]], atol=2e-6)
    silent = visurf(rewards, np.ones(2), injected_PG=injected, smooth=False, thinking_K=[False, True])
    assert_allclose(silent, [[1, -1, 0]], atol=2e-6)
    capped = visurf(groups([0.0, 0, 0, 0, 1]), ONE, injected_PG=np.arange(5)[None] == 4, cap=0.5)
    assert_allclose(capped, [[-0.447213] * 4 + [0.5]], atol=2e-6)
    assert_allclose(visurf(rewards, np.ones(2)), grpo(rewards, np.ones(2), eps=1e-6))
    with pytest.raises(ValueError, match="marks 2 rows"):
        visurf(rewards, np.ones(2), injected_PG=[[False, True, True]])


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_seven_float32_copies_of_a_number_give_zero(name: str) -> None:
    rewards = np.full((2, 7, 1), 0.7, dtype=np.float32)
    data = {
        "tmn": {"tasks_P": ["a", "a"]},
        "gcpo": SIDES,
        "grpo_s": {"hardness_PG": np.linspace(0, 1, 14).reshape(2, 7)},
        "visurf": {"injected_PG": np.arange(14).reshape(2, 7) % 7 == 6},
    }
    assert (ADVANTAGES[name](rewards, ONE, eps=0.0, **data.get(name, {})) == 0).all()
