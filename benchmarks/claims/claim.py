"""A claim of a paper and its experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.claims.table_policy import Arm, Floats, World, trained

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
TUNING = range(900, 903)  # seeds that choose the learning rate of each arm, and are not reported


def best_rate(score: Callable[[int, float], float]) -> float:
    """The learning rate with the best score, as a function of seed and rate, over the seeds for tuning."""
    return max(RATES, key=lambda lr: float(np.mean([score(seed, lr) for seed in TUNING])))


Learner = Callable[[int, float, int], float]  # of a seed, a learning rate and a number of steps: what it reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerClaim:
    """What a paper says, and the experiment: a learner of its way and one of the usual way, each at its best rate."""

    paper: str
    claim: str
    setting: str
    new: Learner
    old: Learner
    steps: int

    def quick(self) -> LearnerClaim:
        """The same with few steps."""
        return replace(self, steps=5)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed. Nothing is kept in `out`."""
        new, old = (self._scores(learner, seeds) for learner in (self.new, self.old))
        return [one - other for one, other in zip(new, old, strict=True)]

    def _scores(self, learner: Learner, seeds: Sequence[int]) -> list[float]:
        rate = best_rate(lambda seed, lr: learner(seed, lr, self.steps))
        return [learner(seed, rate, self.steps) for seed in seeds]


@functools.lru_cache(maxsize=32)
def _drawn(world: Callable[[np.random.Generator], World], seed: int) -> World:
    """The world of a seed, which all runs of it share."""
    return world(np.random.default_rng(seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a paper says, and the experiment: `new` against `old` in worlds drawn by the seed.

    `measure` is what the claim is about. Each arm learns at the rate at which `tuned_by` (by default the same) is
    largest on other seeds.
    """

    paper: str
    claim: str
    setting: str
    world: Callable[[np.random.Generator], World]
    new: Arm
    old: Arm
    measure: Callable[[World, Floats], float]
    tuned_by: Callable[[World, Floats], float] | None = None
    rollouts: int = 20_000

    def quick(self) -> Claim:
        """The same with few rollouts."""
        return replace(self, rollouts=1_000)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed; both see the same world. Nothing is kept in `out`."""
        scores = {name: self._scores(arm, seeds) for name, arm in (("new", self.new), ("old", self.old))}
        return [new - old for new, old in zip(scores["new"], scores["old"], strict=True)]

    def _scores(self, arm: Arm, seeds: Sequence[int]) -> list[float]:
        tuned = self.tuned_by or self.measure
        rate = best_rate(lambda seed, lr: self._run(arm, seed, lr, tuned))
        return [self._run(arm, seed, rate, self.measure) for seed in seeds]

    def _run(self, arm: Arm, seed: int, lr: float, measure: Callable[[World, Floats], float]) -> float:
        world = _drawn(self.world, seed)
        return measure(arm.world(world), trained(world, arm, seed=seed, lr=lr, rollouts=self.rollouts))
