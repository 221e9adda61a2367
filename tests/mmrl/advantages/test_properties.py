"""Properties of every estimator, whatever the rewards: tested by search, not by example."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from mmrl.advantages import ADVANTAGES, batch_data_of, check_options, dead_groups, options_of, statistics
from mmrl.core.config import InputError

NAN = float("nan")
SHARED = ("whiten", "tasks_P", "eps", "dead_std")  # options of all, in the docstring of `mmrl.advantages`
scores = st.one_of(st.just(NAN), st.sampled_from([0.0, 0.5, 1.0, 0.7]), st.floats(-1, 1, width=16))


@st.composite
def batches(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.sampled_from([2, 4])), draw(st.integers(1, 6)), draw(st.integers(1, 3)))
    return draw(arrays.arrays(np.float64, shape, elements=scores))


def data(name: str, rewards: np.ndarray) -> dict[str, Any]:
    """The batch data that an estimator takes next to the rewards; the label of ViSurf is a group's last row."""
    prompts, group, _ = rewards.shape
    rng = np.random.default_rng(prompts * 10 + group)
    known = {
        "tasks_P": ["a", "b"] * (prompts // 2),
        "pairs_P": [p // 2 for p in range(prompts)],
        "preferred_P": [p % 2 == 0 for p in range(prompts)],
        "failed_PG": None,
        "hardness_PG": rng.random((prompts, group)),
        "gaps_PG": rng.normal(size=(prompts, group)),
        "injected_PG": np.tile(np.arange(group) == group - 1, (prompts, 1)) if group > 2 else None,
    }
    missing = [option for option in batch_data_of(name) if option not in known]
    assert not missing, f"{name} takes {missing}: add examples of them to `data` in {__file__}"
    return {option: known[option] for option in batch_data_of(name)}


def holds(name: str, trait: str) -> bool:
    """Whether an estimator has a property: a new one has them all, unless its decorator names some in `without`."""
    return trait not in vars(ADVANTAGES[name])["without"]


def having(trait: str) -> list[str]:
    return sorted(name for name in ADVANTAGES if holds(name, trait))


def run(name: str, rewards: np.ndarray, **options: Any) -> np.ndarray:
    weights = np.array([1.0, 0.5, 0.2])[: rewards.shape[2]]
    return ADVANTAGES[name](rewards, weights, **data(name, rewards) | options)


@pytest.mark.parametrize("whiten", ["batch", "task", "none"])
@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(deadline=None, max_examples=40)
@given(rewards=batches())
def test_always_finite_and_zero_without_a_signal(name: str, whiten: str, rewards: np.ndarray) -> None:
    for eps in (1e-4, 0.0):
        got = run(name, rewards, whiten=whiten, tasks_P=["a", "b"] * (len(rewards) // 2), eps=eps)
        assert got.shape == rewards.shape[:2]
        assert np.isfinite(got).all()
        assert (got[np.isnan(rewards).all(axis=-1)] == 0).all()
        if holds(name, "own_group"):  # a constant side of a pair can still be right or wrong about the other
            assert (got[dead_groups(rewards).all(axis=-1)] == 0).all()
        if holds(name, "zero_sum") and whiten == "none":
            by_design = f'if the sum over a group need not be 0, decorate {name} with @estimator(without=["zero_sum"])'
            assert_allclose(got.sum(axis=1), 0, atol=1e-6, err_msg=by_design)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(deadline=None, max_examples=40)
@given(rewards=batches(), seed=st.integers(0, 100))
def test_the_order_of_a_group_does_not_matter(name: str, rewards: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(rewards.shape[1])
    given_data = data(name, rewards)
    moved = {k: v[:, order] if isinstance(v, np.ndarray) else v for k, v in given_data.items()}
    assert_allclose(run(name, rewards[:, order], **moved), run(name, rewards)[:, order], atol=1e-6)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(deadline=None, max_examples=40)
@given(rewards=batches())
def test_a_reward_that_nobody_has_changes_nothing(name: str, rewards: np.ndarray) -> None:
    more = np.concatenate([rewards[..., :2], np.full((*rewards.shape[:2], 1), NAN)], axis=-1)
    assert_allclose(run(name, more), run(name, rewards[..., :2]), atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"visurf"}))
@settings(deadline=None, max_examples=40)
@given(rewards=batches())
def test_a_rollout_without_scores_does_not_move_the_others(name: str, rewards: np.ndarray) -> None:
    silent = np.full((len(rewards), 1, rewards.shape[2]), NAN)
    more = np.concatenate([rewards, silent], axis=1)
    own = data(name, rewards)
    wider = {
        k: np.concatenate([v, np.full((len(v), 1), NAN)], axis=1) if isinstance(v, np.ndarray) else v
        for k, v in own.items()
    }
    assert_allclose(run(name, more, **wider)[:, :-1], run(name, rewards), atol=1e-9)


@pytest.mark.parametrize("name", having("neutral_abstention"))
def test_abstaining_is_worth_the_mean_of_the_others(name: str) -> None:
    rewards = np.array([[[1.0, 0.9], [0.0, 0.1], [0.5, NAN], [0.5, 0.5]]])
    got = run(name, rewards)
    assert got[0, 2] == pytest.approx(got[0, 3], abs=1e-6)


@pytest.mark.parametrize("name", having("scale_free"))
@settings(deadline=None, max_examples=40)
@given(rewards=batches(), scale=st.floats(0.1, 20), shift=st.floats(-3, 3))
def test_scaling_and_shifting_all_rewards_alike(name: str, rewards: np.ndarray, scale: float, shift: float) -> None:
    coarse = np.round(rewards, 1)  # spreads far above dead_std, and ties stay ties
    moved = np.where(np.isnan(coarse), NAN, np.round(coarse * 10) * (scale / 10) + shift)
    if name in ("tmn", "visurf") and not exact(coarse, moved):
        return
    by_design = f'if {name} should see the scale, decorate it with @estimator(without=["scale_free"])'
    assert_allclose(run(name, moved, eps=0.0), run(name, coarse, eps=0.0), atol=1e-6, err_msg=by_design)


def exact(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether no score is so near its group's mean that rounding decides on which side it lies."""

    def near(values: np.ndarray) -> bool:
        count = np.maximum((~np.isnan(values)).sum(axis=1, keepdims=True), 1)
        return bool((np.abs(values - np.nansum(values, axis=1, keepdims=True) / count) < 1e-6).any())

    return not near(first) and not near(second)


@settings(deadline=None, max_examples=40)
@given(rewards=batches(), scale=st.floats(0.1, 20))
def test_gdpo_does_not_see_the_scale_of_one_reward(rewards: np.ndarray, scale: float) -> None:
    coarse = np.round(rewards, 1)
    factors = np.array([scale, 1.0, 1.0])[: rewards.shape[2]]
    for name in ("gdpo", "c_gdpo"):
        assert_allclose(run(name, coarse * factors, eps=0.0), run(name, coarse, eps=0.0), atol=1e-6)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_tensors_come_back_as_tensors(name: str) -> None:
    rewards = torch.rand(4, 4, 2, dtype=torch.bfloat16)
    options = {
        k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in data(name, rewards.float().numpy()).items()
    }
    got = ADVANTAGES[name](rewards, torch.ones(2), **options)
    assert got.dtype == torch.bfloat16
    expected = ADVANTAGES[name](rewards.double().numpy(), np.ones(2), **data(name, rewards.double().numpy()))
    assert_allclose(got.float(), expected, rtol=0.01, atol=1e-6)
    assert dead_groups(rewards).dtype == torch.bool


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gdop", {}, "did you mean gdpo"),
        ("gdpo", {"whitten": "task"}, "did you mean whiten"),
        ("gdpo", {"whiten": "tasks"}, "whiten='tasks'; known: batch, task, none"),
        ("grpo", {"eps": -1}, "eps=-1; must be at least 0"),
        ("grpo", {"eps": "small"}, "eps='small'; must be a finite number"),
        ("grpo", {"ddof": 2}, "ddof=2"),
        ("tmn", {"alpha": 1.5}, r"alpha=1.5; must be in \[0, 1\]"),
        ("tmn", {"tasks_P": ["a"]}, "no option 'tasks_P'"),
        ("visurf", {"cap": NAN}, "cap=nan"),
        ("grpo_s", {"tau": -2}, "tau=-2"),
    ],
)
def test_a_wrong_option_is_refused_before_training(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_options(name, options)


def test_right_options_pass() -> None:
    for name in ADVANTAGES:
        check_options(name, {"whiten": "task", "eps": 1e-5}, rewards=2)
        assert "tasks_P" in options_of(name)
    with pytest.raises(ValueError, match="infinite"):
        run("grpo", np.full((2, 2, 1), np.inf))


def test_statistics_of_a_step() -> None:
    rewards = np.array([
        [[1.0, 0.5], [0.0, 0.5]],
        [[1.0, NAN], [1.0, NAN]],
        [[NAN, 0.2], [NAN, 0.8]],
        [[NAN, 0.2], [NAN, NAN]],
    ])  # fmt: skip
    advantages = run("dr_grpo", rewards)  # +-0.5 and +-0.15
    logged = statistics(rewards, advantages, ["right", "near"], ["qa", "qa", "box", "box"])
    expected = {
        "rewards/right/dead_groups": 0.75,
        "rewards/right/abstained": 0.5,
        "rewards/near/dead_groups": 0.75,
        "rewards/near/abstained": 3 / 8,
        "tasks/qa/dead_groups": 0.5,
        "tasks/qa/abstained": 0.0,
        "tasks/qa/gradient_share": 0.5 / 0.65,
        "tasks/box/abstained": 0.25,
        "tasks/box/gradient_share": 0.15 / 0.65,
        "tasks/qa/right/gradient_share": 1.0,
        "tasks/qa/near/gradient_share": 0.0,
        "tasks/box/near/gradient_share": 1.0,
        "tasks/qa/near/abstained": 0.5,
    }
    for key, value in expected.items():
        assert logged[key] == pytest.approx(value), key
    assert "tasks/box/right/abstained" not in logged
    assert logged["rewards/right/gradient_share"] + logged["rewards/near/gradient_share"] == pytest.approx(1)


def test_the_share_of_the_gradient_is_the_weight_of_independent_rewards() -> None:
    rewards = np.array([[[1.0, 1], [1, 0], [0, 1], [0, 0]]])
    advantages = ADVANTAGES["c_gdpo"](rewards, np.array([1.0, 0.5]))
    logged = statistics(rewards, advantages, ["a", "b"])
    assert logged["rewards/a/gradient_share"] == pytest.approx(0.8)
    assert logged["rewards/b/gradient_share"] == pytest.approx(0.2)
    nothing = statistics(np.full((2, 3, 2), NAN), np.zeros((2, 3)), ["a", "b"], ["t", "t"])
    assert nothing["tasks/t/gradient_share"] == nothing["rewards/a/gradient_share"] == 0


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@pytest.mark.parametrize("whiten", ["none", "batch"])
def test_a_reward_of_weight_zero_changes_nothing(name: str, whiten: str) -> None:
    rewards = np.random.default_rng(0).random((4, 6, 2))
    rewards[:, ::2, 0] = NAN
    batch: dict[str, Any] = data(name, rewards) | {"whiten": whiten}
    with_it = ADVANTAGES[name](rewards, [1.0, 0.0], **batch)
    assert_allclose(with_it, ADVANTAGES[name](rewards[..., :1], [1.0], **batch))
    assert (with_it[:, ::2] == 0).all()


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_every_estimator_names_its_equation_and_its_source(name: str) -> None:
    text = inspect.getdoc(ADVANTAGES[name]) or ""
    where = f"the docstring of {name} (mmrl/advantages), from which docs/reference is made,"
    assert re.search(r"\b\d{4}\.\d{5}\b", text.split("\n")[0]), (
        f"{where} must name the paper in its first line, as 2402.03300"
    )
    assert re.search(r"^    \w.* = ", text, re.M), (
        f"{where} must give the equation, indented by four spaces, and below it a line of text that is not indented"
    )
    own = [option for option in options_of(name) if option not in SHARED]
    missing = [option for option in own if f"`{option}" not in text and f"{option}=" not in text]
    assert not missing, f"{where} must say what {missing} do"


def test_a_group_in_which_rewards_of_weight_zero_alone_differ_is_dead() -> None:
    rewards = np.array([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]])
    both = [statistics(rewards, np.zeros((2, 2)), ["a", "b"], ["t", "t"], weights_K=w) for w in ([1, 0], [1, 1])]
    assert [logged["tasks/t/dead_groups"] for logged in both] == [0.5, 0.0]
