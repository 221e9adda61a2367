"""Bands of difficulty: which samples a policy can learn from, by what some answers of it scored.

Where an answer is right or wrong, a band is bounds on whole numbers: at least `least` and at most `most` of `of` draws
are right. Where scores are graded (boxes, spans, texts), it is bounds on their variance: a group of draws that score
the same teaches nothing. A sample that was drawn fewer times than a band speaks of is judged by what is likely.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, NamedTuple, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from scipy.stats import chi2

from mmrl.core.config import Config, InputError

Where = Literal["below", "within", "above"]

CERTAIN = 1e-9  # bounds are whole numbers: this far, arithmetic may miss them


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
        """The whole numbers of right answers in the band where guessing is right with `chance`.

        The bounds are on what is left when the guesses are taken out: of 8 yes-or-no answers a guesser gets 4 right.
        `least` of 0 is no bound: worse than a guesser is in the band, too.

        >>> Counts(least=1, most=7, of=8).bounds(0.5), Counts(least=0, most=7, of=8).bounds(0.5)
        ((5, 7), (0, 7))
        """
        low, high = (bound * (1 - chance) + self.of * chance for bound in (self.least, self.most))
        return math.ceil(low - CERTAIN) if self.least else 0, math.floor(high + CERTAIN)


class Spread(Config):
    """A variance from `least` to `most` of scores whose mean is between `low` and `high`; None is no bound."""

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
    """How likely a count comes out below a band, within it, or above."""

    below: float
    within: float
    above: float

    @property
    def likeliest(self) -> Where:
        """The likeliest of the three; within, if it is as likely as another."""
        return max(("within", "below", "above"), key=lambda name: getattr(self, name))


def odds(right: int, n: int, band: Counts, chance: float = 0.0) -> Odds:
    """Where the count of `band.of` draws ends, if `right` of the first `n` are right and every rate was as likely
    before (the rest is beta-binomial). All draws made, one of the three is 1.

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
    """Whether more draws would hardly move a sample into the band or out of it.

    Of graded scores: whether the interval of their variance (chi-squared, as if they were normal) and that of their
    mean hold no bound. Scores that are all the same say too little to stop.
    """
    if isinstance(band, Counts):
        found = odds(right, len(scores), band, chance)
        return max(found) >= confidence
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
    """(mean, unbiased variance) of scores; a single one has no variance.

    >>> moments([0.0, 1.0, 1.0, 0.0])
    (0.5, 0.3333333333333333)
    """
    mean = math.fsum(scores) / len(scores)
    if len(scores) == 1:
        return mean, 0.0
    return mean, math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)


def corrected(rate: float, chance: float) -> float:
    """A rate of right answers with the guesses taken out: 0 is what guessing gives, 1 all right.

    >>> corrected(0.75, 0.5)
    0.5
    """
    return (rate - chance) / (1 - chance) if chance < 1 else 0.0
