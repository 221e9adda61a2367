import numpy as np
import pytest

from eval.metrics import MANY, mean_estimate, paired_estimate


def test_the_bootstrap_interval_is_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, size=2000).tolist()
    estimate = mean_estimate(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert estimate.mean == pytest.approx(np.mean(values))
    assert estimate.error == pytest.approx(error)
    assert estimate.low == pytest.approx(np.mean(values) - 1.96 * error, abs=0.08 * error)
    assert estimate.high == pytest.approx(np.mean(values) + 1.96 * error, abs=0.08 * error)


def test_the_interval_of_very_many_values_is_that_of_almost_as_many() -> None:
    values = (np.random.default_rng(6).random(MANY) < 0.2).astype(float).tolist()
    normal, resampled = mean_estimate(values), mean_estimate(values[:-1])
    assert resampled.error is not None
    assert (normal.low, normal.high) == pytest.approx((resampled.low, resampled.high), abs=0.2 * resampled.error)


def test_repeated_questions_on_one_picture_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).random(60).tolist()
    once = mean_estimate(values)
    tenfold = mean_estimate(values * 10, list(range(60)) * 10)
    assert (tenfold.mean, tenfold.n, tenfold.clusters) == (pytest.approx(once.mean), 600, 60)
    assert (tenfold.low, tenfold.high, tenfold.error) == pytest.approx((once.low, once.high, once.error))
    naive = mean_estimate(values * 10)
    assert naive.error is not None
    assert once.error is not None
    assert naive.error < once.error / 3


def test_a_shift_shared_by_all_items_is_certain_however_much_they_vary() -> None:
    before = np.random.default_rng(3).random(50)
    estimate = paired_estimate(before.tolist(), (before + 0.25).tolist())
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(4)
    estimates = [mean_estimate((rng.random(80) < 0.3).astype(float).tolist(), seed=i) for i in range(200)]
    covered = sum(e.low <= 0.3 <= e.high for e in estimates if e.low is not None and e.high is not None)
    assert 180 <= covered <= 199


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(5).random(30).tolist()
    assert mean_estimate(values) == mean_estimate(values)


def test_nothing_has_no_mean_and_one_cluster_no_interval() -> None:
    nothing = mean_estimate([])
    assert (nothing.mean, nothing.low, nothing.n) == (None, None, 0)
    single = mean_estimate([1.0, 0.0], ["cat.png", "cat.png"])
    assert (single.mean, single.low, single.error, single.clusters) == (0.5, None, None, 1)


def test_values_and_clusters_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        mean_estimate([1.0, 0.0], ["cat.png"])
