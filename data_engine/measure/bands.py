"""Bands of difficulty: which samples a policy can learn from, judged by the scores of some of its answers.

Where an answer is right or wrong, a band bounds the number of right draws: at least `least` and at most `most` of `of`.
Where scores are graded (boxes, spans, texts), it bounds their variance: a group of draws with equal scores teaches
nothing. A sample with fewer draws than the band's `of` is judged by probability.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, NamedTuple, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from scipy.stats import chi2

from mmrl.core.config import Config, InputError

Where = Literal["below", "within", "above"]

CERTAIN = 1e-9  # rounding error allowed when bounds are rounded to whole numbers


class Counts(Config):
    """From `least` to `most` right answers of `of` draws."""

    least: NonNegativeInt = 1
    most: NonNegativeInt = 7
    of: PositiveInt = 8

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.least <= self.most <= self.of:
            raise ValueError(f"{self.least} to {self.most} of {self.of}; expected 0 <= least <= most <= of")
        return self

    def bounds(self, chance: float = 0.0) -> tuple[int, int]:
        """(fewest, most) right answers in the band if a guess is right with probability `chance`.

        The band applies to the rate after correction for guessing: of 8 yes-or-no answers a guesser gets 4 right. With
        `least` 0 there is no lower bound: rates below that of a guesser are in the band, too.

        >>> Counts(least=1, most=7, of=8).bounds(0.5), Counts(least=0, most=7, of=8).bounds(0.5)
        ((5, 7), (0, 7))
        """
        low, high = (bound * (1 - chance) + self.of * chance for bound in (self.least, self.most))
        return math.ceil(low - CERTAIN) if self.least else 0, math.floor(high + CERTAIN)


class Spread(Config):
    """A variance from `least` to `most` of scores whose mean is between `low` and `high`; None means no bound."""

    least: NonNegativeFloat = 0.0025  # a standard deviation of 0.05
    most: NonNegativeFloat | None = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for low, high in ((self.least, self.most), (self.low, self.high)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"bounds from {low} to {high}; give the lower one first")
        return self


Band = Counts | Spread


class Odds(NamedTuple):
    """The probabilities that a count ends below a band, within it, or above."""

    below: float
    within: float
    above: float

    @property
    def likeliest(self) -> Where:
        """The likeliest of the three; "within" on a tie."""
        return max(("within", "below", "above"), key=lambda name: getattr(self, name))


def odds(right: int, n: int, band: Counts, chance: float = 0.0) -> Odds:
    """Where the count of `band.of` draws ends, if `right` of the first `n` are right.

    The prior over rates is uniform, so the remaining draws are beta-binomial. After all draws, one of the three is 1.

    >>> odds(4, 4, Counts(least=1, most=7, of=8))
    Odds(below=0.0, within=0.4444444444444444, above=0.5555555555555556)
    """
    if not 0 <= right <= n <= band.of:
        raise InputError(
            f"{right} right of {n} draws, but the band is of {band.of}; declare it of as many as are drawn"
        )
    left, (low, high) = band.of - n, band.bounds(chance)
    ways = [math.comb(right + more, more) * math.comb(n - right + left - more, left - more) for more in range(left + 1)]
    total = math.comb(n + left + 1, left)
    below = Fraction(sum(way for more, way in enumerate(ways) if right + more < low), total)
    above = Fraction(sum(way for more, way in enumerate(ways) if right + more > high), total)
    return Odds(float(below), float(1 - below - above), float(above))


def is_decided(band: Band, scores: list[float], right: int, chance: float, confidence: float) -> bool:
    """Whether more draws are unlikely to move a sample into the band or out of it.

    For graded scores: whether no bound lies in the confidence interval of their variance (chi-squared, as for normal
    scores) or of their mean. Scores that are all equal never decide.
    """
    if isinstance(band, Counts):
        return max(odds(right, len(scores), band, chance)) >= confidence
    n = len(scores)
    mean, variance = moments(scores) if scores else (0.0, 0.0)
    if variance == 0:
        return False
    tail = (1 - confidence) / 2
    least, most = (float((n - 1) * variance / chi2.ppf(1 - p, n - 1)) for p in (tail, 1 - tail))
    reach = math.sqrt(variance / n) * 2
    varies = [least < bound < most for bound in (band.least, band.most) if bound is not None]
    moves = [mean - reach < bound < mean + reach for bound in (band.low, band.high) if bound is not None]
    return not any([*varies, *moves])


def moments(scores: list[float]) -> tuple[float, float]:
    """(mean, unbiased variance) of scores; the variance of a single score is 0.

    >>> moments([0.0, 1.0, 1.0, 0.0])
    (0.5, 0.3333333333333333)
    """
    mean = math.fsum(scores) / len(scores)
    if len(scores) == 1:
        return mean, 0.0
    return mean, math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)


def corrected(rate: float, chance: float) -> float:
    """A rate of right answers corrected for guessing: 0 is the rate of a guesser, 1 is all right.

    >>> corrected(0.75, 0.5)
    0.5
    """
    return (rate - chance) / (1 - chance) if chance < 1 else 0.0
