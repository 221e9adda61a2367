"""Claims about trees and about steps, on policies that are tables of logits.

A tree: a thought [P, V], and then an answer to it [P, V, V], of which the first is right. How likely the right answer
is depends on the thought. A flat group draws a thought for each answer, a tree one for two. Steps [P, S, V]: an answer
is right if each of its steps is, and a judge that is not always right says of each step whether it is.
Shapes: P prompts, G rollouts of a prompt, S steps, V ways at every place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.claims.claim import Learner, LearnerClaim
from benchmarks.claims.table_policy import Floats, sampled, softmax
from mmrl.advantages import ADVANTAGES
from mmrl.advantages.sibling import sibling_advantages
from mmrl.advantages.steps import renormed, step_advantages

Numbers = NDArray[np.int64]

PROMPTS, WAYS, GROUP = 32, 8, 8
STEPS, CHOICES = 4, 4  # of an answer, at each step
THINKING, ANSWERING = 30, 10  # tokens of a thought, of an answer
SHORT = 10  # steps of a training; after 40 of them all ways are right


@dataclass(frozen=True, slots=True)
class Way:
    """Whether two answers follow each thought, and whether siblings are compared with each other."""

    tree: bool
    sibling: bool

    @property
    def tokens(self) -> int:
        """Tokens of a group that are drawn."""
        return GROUP // (2 if self.tree else 1) * THINKING + GROUP * ANSWERING


FLAT = Way(tree=False, sibling=False)


def drawn(way: Way, thought_PV: Floats, answer_PVV: Floats, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """(the thoughts [P, G], the answers [P, G]) of one group of each prompt."""
    thoughts_PG = sampled(softmax(thought_PV), GROUP, rng)
    if way.tree:
        thoughts_PG = thoughts_PG[:, ::2].repeat(2, axis=1)
    policy_PGV = softmax(answer_PVV[np.arange(PROMPTS)[:, None], thoughts_PG])
    return thoughts_PG, sampled(policy_PGV, 1, rng)[..., 0]


def start(seed: int) -> tuple[Floats, Floats]:
    """The first logits of thoughts [P, V] and answers [P, V, V]; after some thoughts the right answer is likelier."""
    rng = np.random.default_rng([seed, 1])
    answer_PVV = np.zeros((PROMPTS, WAYS, WAYS))
    answer_PVV[..., 0] = rng.normal(scale=1.5, size=(PROMPTS, WAYS))
    return np.zeros((PROMPTS, WAYS)), answer_PVV


def thinker(way: Way, *, seed: int, lr: float, steps: int) -> float:
    """The share of right answers after as many drawn tokens as `steps` flat groups of each prompt have."""
    rng, (thought_PV, answer_PVV) = np.random.default_rng(seed), start(seed)
    rows_P1, eye = np.arange(PROMPTS)[:, None], np.eye(WAYS)
    for _ in range(steps * FLAT.tokens // way.tokens):
        thoughts_PG, answers_PG = drawn(way, thought_PV, answer_PVV, rng)
        right_PG = (answers_PG == 0).astype(float)
        whole_PG = np.asarray(ADVANTAGES["grpo"](right_PG[..., None], np.ones(1)))
        credit_PG2 = np.stack([whole_PG, whole_PG], axis=2)
        if way.sibling:
            for prompt, said in enumerate(np.stack([thoughts_PG, answers_PG], axis=2).tolist()):
                credit_PG2[prompt] += sibling_advantages(said, right_PG[prompt], whole_branch=True)
        policy_PGV = softmax(answer_PVV[rows_P1, thoughts_PG])
        push_PGV = lr * credit_PG2[..., 1:] * (eye[answers_PG] - policy_PGV) / GROUP
        np.add.at(answer_PVV, (rows_P1, thoughts_PG), push_PGV)
        thought_PV += lr * (credit_PG2[..., :1] * (eye[thoughts_PG] - softmax(thought_PV)[:, None])).mean(axis=1)
    return float((softmax(thought_PV) * softmax(answer_PVV)[..., 0]).sum(axis=1).mean())


def live(way: Way, *, seed: int, steps: int) -> float:
    """The share of groups in which rewards differ, before anything is learned."""
    rng, first = np.random.default_rng(seed), start(seed)
    right = np.stack([drawn(way, *first, rng)[1] == 0 for _ in range(steps)])
    return float((right.any(axis=-1) & ~right.all(axis=-1)).mean())


def stepper(credit: str, accuracy: float, *, seed: int, lr: float, steps: int) -> float:
    """The share of right answers after so many steps of a group of each prompt.

    `credit`: the outcome alone; the advantage of each step added to it; or the steps' scores centred with the outcome.
    """
    rng = np.random.default_rng(seed)
    logits_PSV = np.zeros((PROMPTS, STEPS, CHOICES))
    logits_PSV[..., 0] = 1.0
    for _ in range(steps):
        policy_PSV = softmax(logits_PSV)
        taken_PGS = sampled(policy_PSV, GROUP, rng).swapaxes(1, 2)
        right_PG = (taken_PGS == 0).all(axis=2).astype(float)
        judged_PGS = ((taken_PGS == 0) == (rng.random(taken_PGS.shape) < accuracy)).astype(float)
        whole_PGS = np.asarray(ADVANTAGES["grpo"](right_PG[..., None], np.ones(1)))[..., None] + np.zeros(STEPS)
        if credit == "added":
            whole_PGS = whole_PGS + np.array([step_advantages(list(judged_GS)) for judged_GS in judged_PGS])
        if credit == "renormed":
            rows = zip(judged_PGS, right_PG, strict=True)
            whole_PGS = np.array([step_advantages([*map(renormed, *row)]) for row in rows])
        pushed_PGSV = whole_PGS[..., None] * (np.eye(CHOICES)[taken_PGS] - policy_PSV[:, None])
        logits_PSV += lr * pushed_PGSV.mean(axis=1)
    return float(softmax(logits_PSV)[..., 0].prod(axis=1).mean())


def _thinker(way: Way) -> Learner:
    return lambda seed, lr, steps: thinker(way, seed=seed, lr=lr, steps=steps)


def _live(way: Way) -> Learner:
    return lambda seed, lr, steps: live(way, seed=seed, steps=steps)


def _stepper(credit: str, accuracy: float) -> Learner:
    return lambda seed, lr, steps: stepper(credit, accuracy, seed=seed, lr=lr, steps=steps)


def _tree(claim: str, setting: str, new: Learner, old: Learner, steps: int = SHORT) -> LearnerClaim:
    setting = f"a thought of {THINKING} tokens, an answer of {ANSWERING}; {setting}"
    return LearnerClaim(paper="V-STAR (2602.10699)", claim=claim, setting=setting, new=new, old=old, steps=steps)


def _step(claim: str, new: str, old: str, accuracy: float) -> LearnerClaim:
    setting = f"four steps, a judge that is right about {accuracy:.0%} of them; right answers, {new} - {old}"
    learners = (_stepper(credit, accuracy) for credit in (new, old))
    return LearnerClaim(
        paper="PPR (2509.25598)", claim=claim, setting=setting, new=next(learners), old=next(learners), steps=SHORT
    )


TREES: dict[str, LearnerClaim] = {
    "siblings": _tree(
        "trees whose siblings are compared teach more than flat groups, at equal tokens",
        "right answers, trees with siblings - flat groups",
        _thinker(Way(tree=True, sibling=True)),
        _thinker(FLAT),
    ),
    "siblings_alone": _tree(
        "comparing siblings teaches more than comparing the rollouts of the same trees",
        "right answers, with siblings - without",
        _thinker(Way(tree=True, sibling=True)),
        _thinker(Way(tree=True, sibling=False)),
    ),
    "siblings_live": _tree(
        "fewer groups of trees are dead than of flat groups",
        "groups in which rewards differ, before training, trees - flat groups",
        _live(Way(tree=True, sibling=True)),
        _live(FLAT),
        steps=40,
    ),
    "steps": _step("scores of steps beside the outcome teach more than the outcome", "added", "outcome", 0.9),
    "steps_poor": _step("the same of a judge that is hardly better than a coin", "added", "outcome", 0.6),
    "renorm": _step("scores centred with the outcome teach more than scores beside it", "renormed", "added", 0.9),
}
