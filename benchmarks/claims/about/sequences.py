"""A claim about long completions: EAD, on a policy that is a table of logits [P, T, V] for each of T tokens.

Shapes: P prompts, G completions of a prompt, T tokens of a completion, V tokens of the vocabulary.

One early token is a choice among V ways, of which a wrong one tempts; all later tokens only carry it out. An answer is
right if the choice is right and no later token slips. So it takes heat early and precision later to be right at all.
"""

from __future__ import annotations

import numpy as np

from benchmarks.claims.claim import Learner, LearnerClaim
from benchmarks.claims.table_policy import Floats, sampled, softmax
from mmrl.advantages import ADVANTAGES
from mmrl.grpo.temperature import annealed

TOKENS, VOCABULARY, CHOICE = 120, 8, 10  # the choice is the first token after those that EAD leaves at temperature 1
GROUP = 8  # completions of a prompt in a step
TEMPTING = 3.0  # the first logit of the tempting way; that of the right one is 0
ANNEALED_T = annealed(np.arange(TOKENS), 0, d0=150.0)
CONSTANT_T = np.full(TOKENS, ANNEALED_T.mean())


def trained(
    margins: tuple[float, float], temperature_T: Floats, *, seed: int, lr: float, steps: int, prompts: int = 32
) -> Floats:
    """The logits [P, T, V] after so many steps of eight completions of each prompt; token 0 is right everywhere.

    `margins` are how far its logit stands above the others at the first token and at the last.
    """
    rng = np.random.default_rng(seed)
    logits_PTV = np.zeros((prompts, TOKENS, VOCABULARY))
    logits_PTV[:, :, 0] = np.linspace(*margins, TOKENS)
    logits_PTV[:, CHOICE] = np.eye(VOCABULARY)[1] * TEMPTING
    for _ in range(steps):
        policy_PTV = softmax(logits_PTV / temperature_T[:, None])
        tokens_PGT = sampled(policy_PTV, GROUP, rng).swapaxes(1, 2)
        right_PG = (tokens_PGT == 0).all(axis=2).astype(float)
        advantages_PG = np.asarray(ADVANTAGES["grpo"](right_PG[..., None], np.ones(1)))
        taken_PGTV = np.eye(VOCABULARY)[tokens_PGT]
        gradient_PTV = np.einsum("pg,pgtv->ptv", advantages_PG, taken_PGTV - policy_PTV[:, None]) / GROUP
        logits_PTV += lr * gradient_PTV / temperature_T[:, None]
    return logits_PTV


def solved(logits_PTV: Floats) -> float:
    """The share of prompts whose greedy answer is right."""
    return float((logits_PTV.argmax(axis=2) == 0).all(axis=1).mean())


def _learner(margins: tuple[float, float], temperature_T: Floats) -> Learner:
    return lambda seed, lr, steps: solved(trained(margins, temperature_T, seed=seed, lr=lr, steps=steps))


def _claim(claim: str, setting: str, margins: tuple[float, float]) -> LearnerClaim:
    return LearnerClaim(
        paper="EAD (2510.05251)",
        claim=claim,
        setting=f"{setting}; right greedy answers, annealed - constant",
        new=_learner(margins, ANNEALED_T),
        old=_learner(margins, CONSTANT_T),
        steps=25,
    )


SEQUENCES: dict[str, LearnerClaim] = {
    "ead": _claim(
        "hot first tokens and colder later ones teach more than a constant temperature of the same mean",
        "an early choice, then 109 tokens that slip the more easily the later they are",
        (8.0, 4.0),
    ),
    "ead_even": _claim(
        "the same where no token slips more easily than another", "an early choice, then 109 tokens", (5.2, 5.2)
    ),
}
