"""Credit per token: THR on the worked example and against its form over all pairs; spans keep a rollout's mean."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from mmrl.advantages.token_credit import residuals, span_credit, span_credits, thr_scores, thr_weights, weighted
from mmrl.core.config import InputError
from rewards.base import Span

HIDDEN = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
SEQUENCE = np.array([0, 1, 1])
CORRECT = np.array([1.0, 0.0])


def example_residuals() -> np.ndarray:
    logits = HIDDEN @ np.array([[0.5, 0.0], [0.0, 0.5], [-0.5, -0.5]]).T
    return residuals(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.array([0, 1, 0]))


def test_thr_of_the_worked_example() -> None:
    scores = thr_scores(HIDDEN, example_residuals(), SEQUENCE, CORRECT)
    assert_allclose(scores, [0.3726474, 0.2050541, 0.0], atol=1e-6)
    weights = thr_weights(scores, SEQUENCE, CORRECT, p=0.1, tau=0.1)
    assert_allclose(weights, [1.1, 1.1, 0.0])
    assert_allclose(weighted(np.array([[2.0]]), weights[None, None]), [[[2.2, 2.2, 0.0]]])
    assert_allclose(thr_weights(scores, SEQUENCE, CORRECT, p=-0.1, beta=0.5), [0.9, 0.9, 0.0])  # tau 0.1863


def test_thr_is_that_over_all_pairs_of_tokens() -> None:
    rng = np.random.default_rng(0)
    hidden, residual, sequence = rng.normal(size=(30, 4)), rng.normal(size=(30, 7)), np.repeat(np.arange(5), 6)
    correct = np.array([1.0, 0.0, 1.0, np.nan, 0.0])
    pairs = (residual @ residual.T) * (hidden @ hidden.T)
    right = np.isin(sequence, [0, 2])
    expected = np.nan_to_num(2 * correct - 1)[sequence] * pairs[right].sum(axis=0) / 6
    scores = thr_scores(hidden, residual, sequence, correct)
    assert_allclose(scores, expected)
    assert (thr_weights(scores, sequence, correct)[sequence == 3] == 1).all()


@pytest.mark.parametrize("correct", [[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan], [1.0, np.nan]])
def test_thr_falls_back_to_the_plain_advantage_without_both_kinds_of_answers(correct: list[float]) -> None:
    scores = thr_scores(HIDDEN, example_residuals(), SEQUENCE, np.array(correct))
    assert (thr_weights(scores, SEQUENCE, np.array(correct)) == 1).all()


def test_span_credit_goes_to_the_phase_that_is_seen() -> None:
    offsets = [(0, 4), (4, 8), (8, 12), (0, 0)]
    spans = [Span(0, 4, 1.0), Span(4, 10, 0.0)]
    assert_allclose(span_credit(spans, offsets, 0.9), [1.5, 0.6, 0.6, 0.9])
    assert_allclose(span_credit(spans, offsets, -0.9), [-0.3, -1.2, -1.2, -0.9])
    assert_allclose(span_credit(spans, offsets, 0.0), 0)
    assert_allclose(span_credit(spans, offsets, 0.0, scale="one", strength=0.3), [0.2, -0.1, -0.1, 0.0])
    assert_allclose(span_credit([Span(0, 2, 1.0), Span(2, 4, 0.0)], [(0, 4), (4, 8)], 1.0), [1, 1])
    assert span_credit(spans, [], 1.0).shape == (0,)


def test_span_credits_of_a_batch_are_padded_with_zeros() -> None:
    spans = [[[Span(0, 1, 1.0), Span(1, 2, 0.0)], []]]
    credit = span_credits(np.array([[1.0, -1.0]]), spans, [[[(0, 1), (1, 2)], [(0, 3)]]])
    assert_allclose(credit, [[[1.5, 0.5], [-1.0, 0.0]]])


pieces = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), max_size=6)


@settings(deadline=None, max_examples=100)
@given(pieces, st.lists(st.integers(0, 5), max_size=12), st.floats(-5, 5), st.floats(0, 1))
def test_span_credit_keeps_the_mean_and_the_sign(
    pieces: list[tuple[int, float]], lengths: list[int], advantage: float, strength: float
) -> None:
    edges = np.cumsum([0, *lengths]).tolist()
    offsets = list(itertools.pairwise(edges))
    stops = np.cumsum([size for size, _ in pieces]).tolist()
    spans = [Span(b - s, b, score) for b, (s, score) in zip(stops, pieces, strict=True) if s]
    credit = span_credit(spans, offsets, advantage, strength=strength)
    assert np.isfinite(credit).all()
    if len(credit):
        assert_allclose(credit.mean(), advantage, atol=1e-9)
    assert (credit * np.sign(advantage) >= -1e-12).all()


def test_values_out_of_range_are_named() -> None:
    for options, message in (({"p": 2}, "p=2"), ({"tau": -1}, "tau=-1"), ({"beta": float("nan")}, "beta=nan")):
        with pytest.raises(InputError, match=message):
            thr_weights(np.zeros(3), SEQUENCE, CORRECT, **options)
    with pytest.raises(InputError, match="strength=-1"):
        span_credit([], [(0, 1)], 1.0, strength=-1)
    with pytest.raises(InputError, match="scale='all'"):
        span_credit([], [(0, 1)], 1.0, scale="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"holds 0\.5"):
        thr_scores(HIDDEN, example_residuals(), SEQUENCE, np.array([1.0, 0.5]))
    with pytest.raises(ValueError, match="advantage nan"):
        span_credit([], [(0, 1)], float("nan"))
