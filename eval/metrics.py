"""Means with intervals, by bootstrap over clusters: questions and draws about one image are one observation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
MANY = 10_000  # clusters; with more, the normal interval equals that of the bootstrap up to the noise of the bootstrap
_CELLS = 1 << 21  # resampled clusters held in memory at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error and 95 % interval: n values in `clusters` independent clusters.

    Without values there is no mean; with one cluster there is no error.
    """

    mean: float | None
    low: float | None
    high: float | None
    error: float | None
    n: int
    clusters: int


def mean_estimate(values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = 0) -> Estimate:
    """The mean of `values` with a percentile bootstrap interval over whole clusters; by default each value is one.

    >>> mean_estimate([1.0, 0.0, 1.0, 1.0]).mean
    0.75
    >>> mean_estimate([]).mean is None
    True
    """
    if not values:
        return Estimate(None, None, None, None, 0, 0)
    sums, counts = _by_cluster(values, clusters)
    mean = float(sums.sum() / counts.sum())
    if len(sums) == 1:
        return Estimate(mean, None, None, None, len(values), 1)
    error = _standard_error(sums, counts, mean)
    if len(sums) >= MANY:
        reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
        low, high = mean - reach, mean + reach
    else:
        low, high = np.quantile(_resampled_means(sums, counts, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), error, len(values), len(sums))


def paired_estimate(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Estimate:
    """The mean of `after - before` over matched items, with its interval.

    >>> paired_estimate([0.0, 1.0, 0.5], [0.5, 1.0, 1.0]).mean
    0.3333333333333333
    """
    return mean_estimate([b - a for a, b in zip(before, after, strict=True)], clusters, seed=seed)


def _by_cluster(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """(sum, count) of the values of each cluster, in order of first appearance."""
    if clusters is None:
        return np.asarray(values, dtype=float), np.ones(len(values))
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    if len(index) != len(values):
        raise ValueError(f"{len(values)} values but {len(index)} clusters")
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


def _resampled_means(sums: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """RESAMPLES means, each over as many clusters as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    size = len(sums)
    at_once = max(1, _CELLS // size)
    means = []
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(size, size=(min(at_once, RESAMPLES - start), size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _standard_error(sums: np.ndarray, counts: np.ndarray, mean: float) -> float:
    """The cluster-robust standard error of a ratio of sums."""
    size = len(sums)
    return float(np.sqrt(((sums - mean * counts) ** 2).sum() * size / (size - 1)) / counts.sum())
