"""Reward against divergence: numbers that one can check by hand, and the optimum that nothing exceeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eval.frontier import Answers, best_of_n_law, divergence, frontier, tilted_law
from eval.pass_at_k import best_of_k, best_of_n_kl_bound
from mmrl.core.config import InputError

P, R = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1, 0.5, 0.2, 0])


@pytest.mark.parametrize(
    ("n", "law", "kl", "reward"),
    [
        (2, [0.19, 0.32, 0.33, 0.16], 0.1571992, 0.416),
        (4, [0.3439, 0.4160, 0.2145, 0.0256], 0.5871137, 0.5948),
        (8, [0.5695328, 0.3728192, 0.0569926, 0.0006554], 1.1241081, 0.7673409),
    ],
)
def test_best_of_n_has_an_exact_law(n: int, law: list[float], kl: float, reward: float) -> None:
    """Nearer than the bound that goes by its name."""
    found = best_of_n_law(P, R, n)
    assert_allclose(found, law, atol=1e-6)
    assert (divergence(found, P), found @ R) == (pytest.approx(kl, abs=1e-6), pytest.approx(reward, abs=1e-6))
    assert kl < best_of_n_kl_bound(n)


def test_many_draws_end_at_the_best_answer() -> None:
    assert divergence(best_of_n_law(P, R, 64), P) == pytest.approx(2.2926393, abs=1e-6)
    assert divergence(best_of_n_law(P, R, 10**6), P) == pytest.approx(-math.log(0.1), abs=1e-6)


def test_equal_rewards_keep_the_references_odds() -> None:
    law = best_of_n_law(P, [1, 0, 1, 0], 3)
    assert law[0] / law[2] == pytest.approx(1 / 3)
    assert law.sum() == pytest.approx(1)
    scores = [0.0, 0.0, 1.0, 1.0, 0.5]
    assert best_of_n_law(np.full(5, 0.2), scores, 1) @ scores == pytest.approx(best_of_k(scores, 1))


@pytest.mark.parametrize(
    ("tilt", "law", "kl", "reward"),
    [
        (0.25, [0.6820260, 0.1846044, 0.0834027, 0.0499670], 1.0839325, 0.7910087),
        (0.5, [0.3468862, 0.2552246, 0.2101054, 0.1877838], 0.2768659, 0.5165196),
        (1.0, [0.1987058, 0.2410423, 0.2678528, 0.2923991], 0.0594526, 0.3727975),
    ],
)
def test_the_tilted_optimum(tilt: float, law: list[float], kl: float, reward: float) -> None:
    found = tilted_law(P, R, tilt)
    assert_allclose(found, law, atol=1e-6)
    assert (divergence(found, P), found @ R) == (pytest.approx(kl, abs=1e-6), pytest.approx(reward, abs=1e-6))


def test_nothing_scores_above_the_optimum_at_its_divergence() -> None:
    """At the divergence of best of four the optimum has 0.6446502."""
    policies = {"a": np.array([0.5, 0.3, 0.1, 0.1]), "b": np.array([0.1, 0.1, 0.2, 0.6]), "c": P}
    found = frontier([Answers("x", R, P, policies)], [1, 2, 4, 64])
    points = {point["name"]: point for point in found["points"]}
    assert points["best of 4"]["optimum"] == pytest.approx(0.6446502, abs=1e-3)
    assert [points[name]["reward"] for name in ("best of 1", "reference")] == pytest.approx([P @ R] * 2)
    assert points["reference"]["kl"] == points["c"]["kl"] == 0
    assert all(point["reward"] <= point["optimum"] + 1e-3 for point in found["points"])
    assert (points["b"]["kl"] > 0, points["b"]["reward"] < points["reference"]["reward"]) == (True, True)


def test_prompts_whose_answers_are_not_known_well_enough_are_left_out() -> None:
    whole, half = Answers("x", R, P, {"a": P}), Answers("y", R, P, {"a": P / 2})
    found = frontier([whole, half], [2], coverage=0.9)
    assert (found["prompts"], found["left_out"], found["coverage"]) == (1, 1, pytest.approx(1))
    with pytest.raises(InputError, match=r"no prompt's drawn answers have 0.9 .* \(at most 0.50\); draw more"):
        frontier([half], [2], coverage=0.9)
    never = np.zeros(4)
    lost = [
        Answers("n", R, never, {"a": P}),
        Answers("m", R, P, {"a": never}),
        Answers("o", R, P[::-1] * (P > 0.3), {"a": P}),
    ]
    found = frontier([whole, *lost], [2], coverage=0.0)
    assert (found["prompts"], found["left_out"]) == (1, 3)  # no number of them is finite
