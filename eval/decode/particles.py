"""Sequential Monte Carlo with a reward (arXiv 2604.16453): many answers grow together, and good ones are copied.

The proposal is the model itself at temperature 1 / power, so the weight of a block is the potential of the prefix.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.decode.config import MonteCarlo
from eval.decode.policy import Ids, Policy
from eval.decode.side_by_side import Steps


@dataclass
class Population:
    """Unfinished answers with their log weights, and their log potentials block by block; `ess` and `ancestors` at each
    block."""

    particles: list[Ids]
    log_weights: list[float]
    potentials: list[list[float]]
    ess: list[float] = field(default_factory=list)
    ancestors: list[list[int]] = field(default_factory=list)


def smc(policy: Policy, spec: MonteCarlo) -> Steps[Ids]:
    """The particle with the largest weight; among ties the one with the largest potential."""
    population = yield from evolved(policy, spec)
    policy.spent["resampled"] = sum(row != sorted(set(row)) for row in population.ancestors)
    order = range(spec.particles)
    best = max(order, key=lambda at: (population.log_weights[at], population.potentials[at][-1], -at))
    return population.particles[best]


def evolved(policy: Policy, spec: MonteCarlo) -> Steps[Population]:
    """The population when all its answers have ended."""
    n = spec.particles
    now = Population([[] for _ in range(n)], [0.0] * n, [[] for _ in range(n)])
    while open_ := [at for at in range(n) if not policy.ended(now.particles[at])]:
        room = min(spec.block, policy.limit - max(len(now.particles[at]) for at in open_))
        grown = yield from policy.continued([now.particles[at] for at in open_], room, 1 / spec.power)
        for at, more in zip(open_, grown, strict=True):
            now.particles[at] = now.particles[at] + more
        potentials = yield from _log_potentials(policy, spec, [now.particles[at] for at in open_])
        for at, potential in zip(open_, potentials, strict=True):
            path = _longer(now.potentials[at], [potential], spec)
            now.log_weights[at] += log_potential(path, spec) - log_potential(now.potentials[at], spec)
            now.potentials[at] = path
        weights = normalised(now.log_weights)
        now.ess.append(effective_size(weights))
        chosen = list(range(n))
        if now.ess[-1] < spec.ess * n:
            chosen = systematic(weights, policy.uniform("resample", len(now.ess)))
            now.particles = [now.particles[at] for at in chosen]
            now.potentials = [now.potentials[at] for at in chosen]
            now.log_weights = [0.0] * n
        now.ancestors.append(chosen)
        if chosen != sorted(set(chosen)):
            for move in range(spec.moves):
                yield from _moved(policy, spec, now, move)
    return now


def log_potential(path: Sequence[float], spec: MonteCarlo) -> float:
    """The log potential of a whole prefix: its level, or the sum of its steps."""
    return sum(path) if not spec.levels else path[-1] if path else 0.0


def _longer(path: list[float], more: Sequence[float | None], spec: MonteCarlo) -> list[float]:
    """`path` with the log potentials of further blocks; without a verdict the weight stays."""
    for potential in more:
        unchanged = log_potential(path, spec) if spec.levels else 0.0
        path = [*path, unchanged if potential is None else potential]
    return path


def _moved(policy: Policy, spec: MonteCarlo, now: Population, number: int) -> Steps[None]:
    """A Metropolis-Hastings move of each chosen particle, of which nothing is weighed again (ratio: DERIVED).

    The particle x goes on anew from the beginning of a block that is drawn uniformly among its nb(x) blocks. As the
    model itself proposes x', it is taken with probability min(1, Psi(x') / Psi(x) * nb(x) / nb(x')), where Psi is the
    potential of the whole prefix.
    """
    reach = min(len(now.ess) * spec.block, policy.limit)
    copies, key = Counter(now.ancestors[-1]), (len(now.ess), number)
    places = [
        at
        for at, ancestor in enumerate(now.ancestors[-1])
        if (spec.moved == "all" or copies[ancestor] > 1)
        and (spec.below is None or now.potentials[at][-1] < spec.scale * spec.below)
    ]
    starts = [int(policy.uniform("start", *key, at) * len(now.potentials[at])) for at in places]
    kept = [now.particles[at][: start * spec.block] for at, start in zip(places, starts, strict=True)]
    grown = yield from policy.continued(kept, reach - min(map(len, kept), default=0), 1 / spec.power)
    proposed = [(before + more)[:reach] for before, more in zip(kept, grown, strict=True)]
    paths = [now.potentials[at][:start] for at, start in zip(places, starts, strict=True)]
    paths = yield from _paths(policy, spec, proposed, paths)
    for at, ids, path in zip(places, proposed, paths, strict=True):
        log_ratio = log_potential(path, spec) - log_potential(now.potentials[at], spec)
        log_ratio += math.log(len(now.potentials[at]) / len(path))
        if policy.uniform("accept", *key, at) < math.exp(min(log_ratio, 0.0)):
            now.particles[at], now.potentials[at] = ids, path
            policy.spent["moved"] += 1


def _paths(
    policy: Policy, spec: MonteCarlo, prefixes: Sequence[Ids], paths: Sequence[list[float]]
) -> Steps[list[list[float]]]:
    """The log potentials of whole prefixes, of which `paths` has those of the first blocks. Of levels only the last
    counts."""
    blocks = [math.ceil(len(prefix) / spec.block) for prefix in prefixes]
    new = [range(count if spec.levels else len(path) + 1, count + 1) for count, path in zip(blocks, paths, strict=True)]
    ends = [prefix[: end * spec.block] for prefix, own in zip(prefixes, new, strict=True) for end in own]
    found = iter((yield from _log_potentials(policy, spec, ends)))
    whole = []
    for count, own, path in zip(blocks, new, paths, strict=True):
        potentials = [next(found) for _ in own]
        whole.append(_longer(path, potentials * (count - len(path)) if spec.levels else potentials, spec))
    return whole


def _log_potentials(policy: Policy, spec: MonteCarlo, prefixes: Sequence[Ids]) -> Steps[list[float | None]]:
    """scale x reward of each prefix; with lookahead the log mean of exp(scale x reward) over sampled endings."""
    if not spec.lookahead:
        scores = yield from policy.rewards(prefixes)
        return [None if score is None else spec.scale * score for score in scores]
    ends: list[list[Ids]] = [[prefix] for prefix in prefixes]
    open_ = [at for at, prefix in enumerate(prefixes) if not policy.ended(prefix)]
    if open_:
        starts = [prefixes[at] for at in open_ for _ in range(spec.lookahead)]
        room = policy.limit - max(len(prefixes[at]) for at in open_)
        rolled = yield from policy.continued(starts, room, 1 / spec.power)
        for place, at in enumerate(open_):
            mine = rolled[place * spec.lookahead : (place + 1) * spec.lookahead]
            ends[at] = [prefixes[at] + more for more in mine]
    scores = iter((yield from policy.rewards([end for group in ends for end in group])))
    rewards = [[next(scores) for _ in group] for group in ends]
    return [_log_mean([spec.scale * score for score in group if score is not None]) for group in rewards]


def _log_mean(values: Sequence[float]) -> float | None:
    return float(np.logaddexp.reduce(values)) - math.log(len(values)) if values else None


def normalised(log_weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1.

    >>> [round(weight, 7) for weight in normalised([0.4, 3.6, 1.6])]
    [0.0346589, 0.8502697, 0.1150715]
    """
    exponentials = np.exp(np.asarray(log_weights) - max(log_weights))
    return (exponentials / exponentials.sum()).tolist()


def effective_size(weights: Sequence[float]) -> float:
    """The effective sample size of weights that sum to 1: 1 / sum of squares.

    >>> round(effective_size(normalised([0.4, 3.6, 1.6])), 7)
    1.3561139
    """
    return 1 / sum(weight * weight for weight in weights)


def systematic(weights: Sequence[float], uniform: float) -> list[int]:
    """The ancestors of systematic resampling with one uniform number.

    >>> [systematic(normalised([0.4, 3.6, 1.6]), u) for u in (0.1, 0.5, 0.95)]
    [[0, 1, 1], [1, 1, 1], [1, 1, 2]]
    """
    n = len(weights)
    places = (np.arange(n) + uniform) / n
    return np.minimum(np.searchsorted(np.cumsum(weights), places, side="right"), n - 1).tolist()
