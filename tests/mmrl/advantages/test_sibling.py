"""Advantages among siblings on numbers that one can check by hand."""

import numpy as np
import pytest

from mmrl.advantages.sibling import sibling_advantages

NAN = float("nan")


def of(words: str, rewards: list[float], **options: bool) -> list[list[float]]:
    return [advantages.tolist() for advantages in sibling_advantages(words.split(), np.array(rewards), **options)]


def test_a_branch_is_compared_with_its_siblings_and_counts_once() -> None:
    got = of("ax ay az bx", [0.9, 0.8, 0.7, 0.1])
    assert [row[0] for row in got] == pytest.approx([0.9997144] * 3 + [-0.9997144], abs=1e-5)
    assert [row[1] for row in got] == pytest.approx([1.2232467, 0, -1.2232467, 0], abs=1e-5)


def test_equal_rewards_say_nothing() -> None:
    assert of("ax ay bx", [0.4, 0.4, 0.4]) == [[0, 0]] * 3


def test_tokens_behind_the_last_branch_belong_to_it_only_if_asked() -> None:
    assert of("xyz xz", [1, 0])[0][2] == 0
    first, second = of("xyz xz", [1, 0], whole_branch=True)
    assert first == pytest.approx([0, 0.9998, 0.9998], abs=1e-4)
    assert second == pytest.approx([0, -0.9998], abs=1e-4)


def test_completions_of_unequal_length_and_repeats_share_a_prefix() -> None:
    assert of("ab a ab", [1, 0, 1]) == [[0, 0], [0], [0, 0]]  # an ended completion is no branch


def test_a_rollout_without_a_reward_moves_nobody() -> None:
    assert of("ax ay bz", [1, 0, NAN]) == [[0, *row[1:]] for row in of("ax ay", [1, 0])] + [[0, 0]]
    assert of("ax ay ay", [1, 0, NAN])[:2] == of("ax ay", [1, 0])


def test_long_completions_do_not_exhaust_the_stack() -> None:
    long = [[1] * 20_000, [1] * 20_000 + [2]]
    assert not np.concatenate(sibling_advantages(long, np.array([0.0, 1.0]))).any()


def test_rewards_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"rewards of the shape \(1,\) for 2 completions"):
        sibling_advantages(["a", "b"], np.array([1.0]))
