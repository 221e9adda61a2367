"""Advantages of steps on numbers that one can check by hand."""

import numpy as np
import pytest

from mmrl.advantages.steps import renormed, step_advantages

NAN = float("nan")


@pytest.mark.parametrize(
    ("process", "outcome", "reward"), [(0.8, 1, 0.8), (0.8, 0, -0.2), (0.2, 1, 0.2), (0.2, 0, -0.8)]
)
def test_a_step_is_centred_with_its_outcome(process: float, outcome: float, reward: float) -> None:
    """The vector of PPR."""
    assert renormed(np.array([process]), outcome) == pytest.approx(reward)


def test_what_is_not_known_adds_nothing() -> None:
    assert renormed(np.array([NAN, 1.0]), 1.0).tolist() == [0.5, 1.0]
    assert renormed(np.array([1.0]), NAN).tolist() == [0.5]
    assert np.isnan(renormed(np.array([NAN]), NAN)).all()


def test_steps_are_compared_over_the_whole_group() -> None:
    first, second = step_advantages([np.array([1.0, 0.0]), np.array([1.0])], eps=0)
    assert first == pytest.approx([0.7071068, -1.4142136])
    assert second == pytest.approx([0.7071068])


def test_a_step_answers_for_those_behind_it_if_asked() -> None:
    first, second = step_advantages([np.array([1.0, 0.0]), np.array([1.0])], to_go=True, eps=0)
    assert first == pytest.approx([-0.7071068, -1.4142136])
    assert second == pytest.approx([0.7071068])


def test_equal_steps_and_missing_ones_say_nothing() -> None:
    assert [one.tolist() for one in step_advantages([[0.1 + 0.2], [0.3, 0.3]])] == [[0], [0, 0]]
    assert [one.tolist() for one in step_advantages([[NAN], [NAN, 1.0]])] == [[0], [0, 0]]
    with_missing, without = step_advantages([[1, NAN], [0]]), step_advantages([[1], [0]])
    assert [with_missing[0][0], with_missing[1][0]] == [without[0][0], without[1][0]]
    assert with_missing[0][1] == 0
    assert step_advantages([]) == []
