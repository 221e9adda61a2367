"""Reward against how far a policy moves from its reference: best of n, trained policies and the best that can be had.

Everything is counted on the answers that were drawn, of which the policies' own probabilities are known: no estimate of
a divergence by draws, and no bound. Shapes: Y answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.metrics import mean_estimate
from mmrl.core.config import InputError

Law = NDArray[np.float64]

TILTS = np.geomspace(1e-3, 1e3, 241)  # of the optimum's curve: from the best answer alone to the reference itself


@dataclass(frozen=True)
class Answers:
    """The different answers to a prompt: their rewards, and their probabilities under the reference and each policy.

    A law that adds up to less than 1 gives the rest to answers that nobody drew.
    """

    item: str
    rewards_Y: Law
    reference_Y: Law
    policies: Mapping[str, Law]

    @property
    def coverage(self) -> float:
        """The share of the probability that the answers have, under the policy of which it is least; 0 where a policy
        gives an answer that the reference never gives, so that no divergence is finite."""
        if any(law[self.reference_Y == 0].any() for law in self.policies.values()):
            return 0.0
        return float(min(law.sum() for law in (self.reference_Y, *self.policies.values())))


def best_of_n_law(reference_Y: ArrayLike, rewards_Y: ArrayLike, n: int) -> Law:
    """[Y]: the law of the answer of largest reward of `n` draws, the first among ties (2401.01879).

    >>> best_of_n_law([0.1, 0.2, 0.3, 0.4], [1, 0.5, 0.2, 0], 2).round(2).tolist()
    [0.19, 0.32, 0.33, 0.16]
    """
    p_Y = np.asarray(reference_Y, dtype=float)
    _, ranks_Y = np.unique(rewards_Y, return_inverse=True)
    mass = np.bincount(ranks_Y, p_Y)
    up_to = mass.cumsum()
    return ((up_to**n - (up_to - mass) ** n) / np.where(mass > 0, mass, 1.0))[ranks_Y] * p_Y


def tilted_law(reference_Y: ArrayLike, rewards_Y: ArrayLike, tilt: float) -> Law:
    """[Y]: p exp(r / tilt) / Z, which has the largest reward of all laws that are as near to p (2404.01730).

    >>> tilted_law([0.1, 0.2, 0.3, 0.4], [1, 0.5, 0.2, 0], 0.5).round(4).tolist()
    [0.3469, 0.2552, 0.2101, 0.1878]
    """
    with np.errstate(divide="ignore"):
        logs_Y = np.log(np.asarray(reference_Y, dtype=float)) + np.asarray(rewards_Y, dtype=float) / tilt
    weights_Y = np.exp(logs_Y - logs_Y.max())
    return weights_Y / weights_Y.sum()


def divergence(law_Y: ArrayLike, reference_Y: ArrayLike) -> float:
    """The Kullback-Leibler divergence of a law from the reference, in nats.

    >>> round(divergence([0.19, 0.32, 0.33, 0.16], [0.1, 0.2, 0.3, 0.4]), 7)
    0.1571992
    """
    q_Y, p_Y = np.asarray(law_Y, dtype=float), np.asarray(reference_Y, dtype=float)
    held = q_Y > 0
    with np.errstate(divide="ignore"):
        return float((q_Y[held] * (np.log(q_Y[held]) - np.log(p_Y[held]))).sum())


def frontier(answers: Sequence[Answers], ns: Sequence[int], *, coverage: float = 0.9) -> dict[str, Any]:
    """The points (divergence, reward) of the reference, best of each n and each policy, and the optimum's curve.

    Means over prompts, with 95 % intervals of the reward. Prompts whose drawn answers have less than `coverage` of the
    probability under some policy, or none, are left out. A point's `optimum` is the reward of the curve at its
    divergence.
    """
    kept = [one for one in answers if 0 < one.coverage >= coverage]
    if not kept:
        most = max((one.coverage for one in answers), default=0.0)
        raise InputError(
            f"no prompt's drawn answers have {coverage:g} of the probability of every policy (at most {most:.2f}); "
            "draw more (sampling.samples), ask for shorter answers, or lower --coverage"
        )
    references = [one.reference_Y / one.reference_Y.sum() for one in kept]
    known = list(zip(kept, references, strict=True))
    curve = sorted(
        _means([(divergence(law, p), float(law @ one.rewards_Y)) for one, p, law in laws])
        for laws in ([(one, p, tilted_law(p, one.rewards_Y, tilt)) for one, p in known] for tilt in TILTS)
    )
    named = {f"best of {n}": [best_of_n_law(p, one.rewards_Y, n) for one, p in known] for n in ns}
    named |= {name: [one.policies[name] / one.policies[name].sum() for one in kept] for name in kept[0].policies}
    points = [_point(name, known, laws, curve) for name, laws in {"reference": references, **named}.items()]
    return {
        "prompts": len(kept),
        "left_out": len(answers) - len(kept),
        "coverage": float(np.mean([one.coverage for one in kept])),
        "points": points,
        "optimum": [{"kl": kl, "reward": reward} for kl, reward in curve],
    }


def _point(
    name: str, known: Sequence[Any], laws: Sequence[Law], curve: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    kls = [divergence(law, p) for law, (_, p) in zip(laws, known, strict=True)]
    rewards = [float(law @ one.rewards_Y) for law, (one, _) in zip(laws, known, strict=True)]
    found, kl = mean_estimate(rewards), float(np.mean(kls))
    best = float(np.interp(kl, [at for at, _ in curve], [reward for _, reward in curve]))
    return {"name": name, "kl": kl, "reward": found.mean, "low": found.low, "high": found.high, "optimum": best}


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    kls, rewards = zip(*pairs, strict=True)
    return float(np.mean(kls)), float(np.mean(rewards))
