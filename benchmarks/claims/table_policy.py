"""A policy without a network: logits [P, A] of A actions for each of P prompts, trained by the project's estimators.

Shapes: P prompts, A actions, G rollouts of a prompt, K rewards, B prompts of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.advantages import ADVANTAGES

Floats = NDArray[np.float64]
Scorer = Callable[[Floats, np.random.Generator], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What actions earn: their mean rewards [P, A, K] (NaN: not scored), the noise of each reward, or whether it is
    drawn as 0 or 1 with that mean.

    `seen` makes of the rewards of a step [B, G, K] what the policy learns from. `start` [P, A] are the first logits.
    """

    means_PAK: Floats
    noise_K: Sequence[float]
    drawn_K: Sequence[bool]
    tasks_P: Sequence[str]
    seen: Callable[[Floats], Floats] = lambda rewards_BGK: rewards_BGK
    start_PA: Floats | None = None
    label_P: Sequence[int] | None = None  # the right action, for estimators that are shown it


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """How a policy learns: the estimator with its options, the weights, and whether dead groups are drawn anew."""

    estimator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights_K: Sequence[float] | None = None
    refills: int = 0
    world: Callable[[World], World] = lambda world: world


def trained(
    world: World, arm: Arm, *, seed: int, lr: float, rollouts: int, group: int = 8, prompts: int = 32
) -> Floats:
    """The policy [P, A] after so many rollouts, by plain policy gradient; refills count as rollouts."""
    world = arm.world(world)
    rng = np.random.default_rng(seed)
    size_P, actions = world.means_PAK.shape[:2]
    logits_PA = np.zeros((size_P, actions)) if world.start_PA is None else world.start_PA.copy()
    weights_K = np.ones(world.means_PAK.shape[2]) if arm.weights_K is None else np.asarray(arm.weights_K, float)
    spent = 0
    while spent < rollouts:
        asked_B = rng.permutation(size_P)[:prompts]
        actions_BG, rewards_BGK = _drawn(world, logits_PA, asked_B, group, rng)
        spent += actions_BG.size
        for _ in range(arm.refills):
            dead_B = np.ptp(rewards_BGK @ weights_K, axis=1) < 1e-9
            if not dead_B.any() or spent >= rollouts:
                break
            asked_B = np.where(dead_B, rng.integers(size_P, size=len(asked_B)), asked_B)
            again_BG, scores_BGK = _drawn(world, logits_PA, asked_B, group, rng)
            actions_BG = np.where(dead_B[:, None], again_BG, actions_BG)
            rewards_BGK = np.where(dead_B[:, None, None], scores_BGK, rewards_BGK)
            spent += int(dead_B.sum()) * group
        options = dict(arm.options)
        if arm.estimator == "visurf":
            assert world.label_P is not None
            actions_BG[:, -1] = np.asarray(world.label_P)[asked_B]
            rewards_BGK[:, -1] = world.means_PAK[asked_B, actions_BG[:, -1]]
            options["injected_PG"] = np.arange(group) == np.full((len(asked_B), 1), group - 1)
        tasks = [world.tasks_P[place] for place in asked_B]
        advantages_BG = ADVANTAGES[arm.estimator](world.seen(rewards_BGK), weights_K, tasks_P=tasks, **options)
        policy_BA = softmax(logits_PA[asked_B])
        taken_BGA = np.eye(actions)[actions_BG]
        step_BA = ((taken_BGA - policy_BA[:, None]) * np.asarray(advantages_BG)[..., None]).mean(axis=1)
        np.add.at(logits_PA, asked_B, lr * step_BA)
    return softmax(logits_PA)


def earned(world: World, policy_PA: Floats) -> Floats:
    """[P, K]: the mean rewards of a policy."""
    return np.einsum("pa,pak->pk", policy_PA, world.means_PAK)


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    scaled = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def sampled(policy: Floats, group: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`group` draws from each distribution along the last axis, in its place."""
    passed = rng.random((*policy.shape[:-1], group, 1)) > policy.cumsum(axis=-1)[..., None, :]
    return np.minimum(passed.sum(axis=-1), policy.shape[-1] - 1)


def _drawn(
    world: World, logits_PA: Floats, asked_B: NDArray[Any], group: int, rng: np.random.Generator
) -> tuple[NDArray[Any], Floats]:
    """Actions [B, G] and their rewards [B, G, K]."""
    actions_BG = sampled(softmax(logits_PA[asked_B]), group, rng)
    means_BGK = world.means_PAK[asked_B[:, None], actions_BG]
    noise_K, drawn_K = np.asarray(world.noise_K, float), np.asarray(world.drawn_K)
    noisy_BGK = means_BGK + noise_K * rng.standard_normal(means_BGK.shape)
    drawn_BGK = np.where(np.isnan(means_BGK), np.nan, rng.random(means_BGK.shape) < means_BGK)
    return actions_BG, np.where(drawn_K, drawn_BGK, noisy_BGK)
