"""A claim about long completions: EAD, on a policy that is a table of logits [P, T, V] for each of T tokens.

Shapes: P prompts, G rollouts of a prompt, T tokens of a completion, V tokens of the vocabulary.

One early token is a choice among V ways, of which a wrong one tempts; all later tokens only carry it out. An answer is
right if the choice is right and no later token slips. So it takes heat early and precision later to be right at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.claims.claim import best_rate
from benchmarks.claims.table_policy import Floats, softmax
from mmrl.advantages import ADVANTAGES
from mmrl.grpo.temperature import annealed

TOKENS, VOCABULARY, CHOICE = 120, 8, 10  # the choice is the first token after those that EAD leaves at temperature 1
TEMPTING = 3.0  # the first logit of the tempting way; that of the right one is 0
ANNEALED_T = annealed(np.arange(TOKENS), 0, d0=150.0)
CONSTANT_T = np.full(TOKENS, ANNEALED_T.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceClaim:
    """EAD against a constant temperature of the same mean. `margins` are how far the logit of the right token stands
    above the others at the first token and at the last."""

    claim: str
    setting: str
    margins: tuple[float, float]
    steps: int = 25
    paper: str = "EAD (2510.05251)"

    def quick(self) -> SequenceClaim:
        """The same with few steps."""
        return replace(self, steps=5)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """Annealed minus constant, seed by seed. Nothing is kept in `out`."""
        new, old = (self._scores(temperature_T, seeds) for temperature_T in (ANNEALED_T, CONSTANT_T))
        return [one - other for one, other in zip(new, old, strict=True)]

    def _scores(self, temperature_T: Floats, seeds: Sequence[int]) -> list[float]:
        def score(seed: int, lr: float) -> float:
            return solved(trained(self.margins, temperature_T, seed=seed, lr=lr, steps=self.steps))

        rate = best_rate(score)
        return [score(seed, rate) for seed in seeds]


def trained(
    margins: tuple[float, float], temperature_T: Floats, *, seed: int, lr: float, steps: int, prompts: int = 32
) -> Floats:
    """The logits [P, T, V] after so many steps of eight rollouts of each prompt; token 0 is right everywhere."""
    rng = np.random.default_rng(seed)
    logits_PTV = np.zeros((prompts, TOKENS, VOCABULARY))
    logits_PTV[:, :, 0] = np.linspace(*margins, TOKENS)
    logits_PTV[:, CHOICE] = np.eye(VOCABULARY)[1] * TEMPTING
    for _ in range(steps):
        policy_PTV = softmax(logits_PTV / temperature_T[:, None])
        tokens_PGT = _drawn(policy_PTV, rng)
        right_PG = (tokens_PGT == 0).all(axis=2).astype(float)
        advantages_PG = np.asarray(ADVANTAGES["grpo"](right_PG[..., None], np.ones(1)))
        taken_PGTV = np.eye(VOCABULARY)[tokens_PGT]
        gradient_PTV = np.einsum("pg,pgtv->ptv", advantages_PG, taken_PGTV - policy_PTV[:, None]) / tokens_PGT.shape[1]
        logits_PTV += lr * gradient_PTV / temperature_T[:, None]
    return logits_PTV


def solved(logits_PTV: Floats) -> float:
    """The share of prompts whose greedy answer is right."""
    return float((logits_PTV.argmax(axis=2) == 0).all(axis=1).mean())


def _drawn(policy_PTV: Floats, rng: np.random.Generator, group: int = 8) -> NDArray[np.int64]:
    """Tokens [P, G, T]."""
    prompts, tokens, _ = policy_PTV.shape
    below_PGTV = rng.random((prompts, group, tokens, 1)) > policy_PTV.cumsum(axis=2)[:, None]
    return np.minimum(below_PGTV.sum(axis=3), VOCABULARY - 1)


SEQUENCES: dict[str, SequenceClaim] = {
    "ead": SequenceClaim(
        claim="hot first tokens and colder later ones teach more than a constant temperature of the same mean",
        setting="an early choice, then 109 tokens that slip the more easily the later they are; right greedy answers",
        margins=(8.0, 4.0),
    ),
    "ead_even": SequenceClaim(
        claim="the same where no token slips more easily than another",
        setting="an early choice, then 109 tokens; right greedy answers",
        margins=(5.2, 5.2),
    ),
}
