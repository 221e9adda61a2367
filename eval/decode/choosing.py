"""Methods that choose one of several whole answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eval.decode.config import BestOfN, SelfConsistency
from eval.decode.policy import Ids, Policy
from eval.decode.side_by_side import Steps
from eval.pass_at_k import majority
from rewards.parse.extract import answer_text


def best_of_n(policy: Policy, spec: BestOfN) -> Steps[Ids]:
    """The answer with the largest reward, the first among ties; with `soft`, one drawn by softmax(reward / soft)."""
    answers = yield from policy.continued([[]] * spec.n, policy.limit, policy.temperature)
    scores = yield from policy.rewards(answers)
    return answers[best_place(scores, spec.soft, policy.uniform("soft"))]


def best_place(scores: Sequence[float | None], soft: float | None, uniform: float) -> int:
    """The place of the largest reward, the first among ties; with `soft` the one that a uniform number draws."""
    known = [-math.inf if score is None else score for score in scores]
    if soft is None:
        return known.index(max(known))
    return picked(softmax([score / soft for score in known]), uniform)


def self_consistency(policy: Policy, spec: SelfConsistency) -> Steps[Ids]:
    """The first answer of the majority; `spent` keeps the share of the majority, in percent."""
    answers = yield from policy.continued([[]] * spec.n, policy.limit, policy.temperature)
    chosen, agreement = majority([answer_text(policy.opened + policy.text(ids)) for ids in answers])
    policy.spent["agreement_percent"] = round(100 * agreement)
    return answers[chosen]


def softmax(values: Sequence[float]) -> list[float]:
    """Weights in proportion to exp(value).

    >>> [round(weight, 7) for weight in softmax([4.0, 2.0, 0.8])]
    [0.8502697, 0.1150715, 0.0346589]
    """
    top = max(values)
    if top == -math.inf:
        return [1 / len(values)] * len(values)
    exponentials = [math.exp(value - top) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def picked(weights: Sequence[float], uniform: float) -> int:
    """The index that a uniform number draws by weights that sum to 1."""
    total = 0.0
    for index, weight in enumerate(weights):
        total += weight
        if uniform < total:
            return index
    return len(weights) - 1
