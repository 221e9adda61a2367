"""A claim about verifiers: GCPO compares chains across the sides of a pair, GRPO rewards each by the label of its side.
The verifier is a table of logits [E, S], of the scores of each edit.

Shapes: E edits, S scores from 0 to 10, N sides of the pairs of a step, G chains on a side.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchmarks.claims.claim import Learner, LearnerClaim
from benchmarks.claims.table_policy import Floats, sampled, softmax
from mmrl.advantages import ADVANTAGES

EDITS, SCORES, PAIRS, GROUP = 16, 11, 16, 8
Estimator = Literal["gcpo", "grpo"]


def verifier(worth_E: Floats, estimator: Estimator, *, seed: int, lr: float, steps: int) -> Floats:
    """The policy [E, S] after so many steps on pairs; people prefer the worthier edit by Bradley and Terry's model.

    Under `grpo` a chain about the preferred edit earns its score, one about the other what its score lacks to 10.
    """
    rng = np.random.default_rng([seed, 1])
    logits_ES = np.zeros((EDITS, SCORES))
    pairs_N, preferred_N = np.repeat(np.arange(PAIRS), 2), np.tile([True, False], PAIRS)
    for _ in range(steps):
        first_B, second_B = rng.permuted(np.tile(np.arange(EDITS), (PAIRS, 1)), axis=1)[:, :2].T
        wins_B = rng.random(PAIRS) < 1 / (1 + np.exp(worth_E[second_B] - worth_E[first_B]))
        edits_N = np.stack([np.where(wins_B, first_B, second_B), np.where(wins_B, second_B, first_B)], axis=1).ravel()
        policy_NS = softmax(logits_ES[edits_N])
        scores_NG = sampled(policy_NS, GROUP, rng)
        said_NG1, weights = scores_NG[..., None] / (SCORES - 1), np.ones(1)
        if estimator == "gcpo":
            sides = {"pairs_P": pairs_N.tolist(), "preferred_P": preferred_N.tolist()}
            advantages_NG = np.asarray(ADVANTAGES["gcpo"](said_NG1, weights, **sides))
        else:
            labelled_NG1 = np.where(preferred_N[:, None, None], said_NG1, 1 - said_NG1)
            advantages_NG = np.asarray(ADVANTAGES["grpo"](labelled_NG1, weights))
        taken_NGS = np.eye(SCORES)[scores_NG]
        step_NS = ((taken_NGS - policy_NS[:, None]) * advantages_NG[..., None]).mean(axis=1)
        np.add.at(logits_ES, edits_N, lr * step_NS)
    return softmax(logits_ES)


def agreement(policy_ES: Floats, worth_E: Floats) -> float:
    """How often a chain scores the worthier of two edits higher, the mean over pairs; a tie counts as half."""
    higher_SS = np.tri(SCORES, k=-1) + np.eye(SCORES) / 2
    right_EE = policy_ES @ higher_SS @ policy_ES.T
    return float(right_EE[worth_E[:, None] > worth_E].mean())


def _learner(estimator: Estimator) -> Learner:
    def reached(seed: int, lr: float, steps: int) -> float:
        worth_E = np.random.default_rng(seed).standard_normal(EDITS)
        return agreement(verifier(worth_E, estimator, seed=seed, lr=lr, steps=steps), worth_E)

    return reached


def _claim(chains: str, steps: int) -> LearnerClaim:
    return LearnerClaim(
        paper="Edit-R1 (2604.27505)",
        claim=f"chains compared across the sides of a pair teach more than the label of each side, in {chains} chains",
        setting="a verifier of 16 edits of unequal worth, noisy preferences; a chain's order of two edits, GCPO - GRPO",
        new=_learner("gcpo"),
        old=_learner("grpo"),
        steps=steps,
    )


PAIRS_JUDGED: dict[str, LearnerClaim] = {"gcpo": _claim("20,000", 80), "gcpo_longer": _claim("80,000", 320)}
