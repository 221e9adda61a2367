"""Claims about estimators and shaped rewards, each on a policy that is a table of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.claims.claim import Claim
from benchmarks.claims.table_policy import Arm, Floats, World, earned
from rewards.composed.shaping import par


def _mean(scale_K: Sequence[float]) -> Callable[[World, Floats], float]:
    """The mean of the rewards, each over its scale; a reward of scale 0 is left out."""
    used = [k for k, scale in enumerate(scale_K) if scale]
    return lambda world, policy: float(np.mean([earned(world, policy)[:, k].mean() / scale_K[k] for k in used]))


def _of_task(task: str, reward: int = 0) -> Callable[[World, Floats], float]:
    def measure(world: World, policy_PA: Floats) -> float:
        rows = [place for place, name in enumerate(world.tasks_P) if name == task]
        return float(earned(world, policy_PA)[rows, reward].mean())

    return measure


# GDPO: two rewards of unequal scale


def unequal_scales(rng: np.random.Generator) -> World:
    """A right-or-wrong reward, and one between 0 and 0.02 that does not depend on it."""
    right_PA, small_PA = rng.random((64, 16)), 0.02 * rng.random((64, 16))
    return World(
        means_PAK=np.stack([right_PA, small_PA], axis=-1), noise_K=[0, 0.002], drawn_K=[True, False], tasks_P=["a"] * 64
    )


# Per-task whitening: one task has four rewards, the other one


def unequal_tasks(rng: np.random.Generator) -> World:
    """Half of the prompts are scored by four rewards that agree, the others by the first alone."""
    shared_PA = rng.random((64, 16))
    means_PAK = np.repeat(shared_PA[..., None], 4, axis=2)
    means_PAK[32:, :, 1:] = np.nan
    return World(means_PAK=means_PAK, noise_K=[0.3] * 4, drawn_K=[False] * 4, tasks_P=["four"] * 32 + ["one"] * 32)


# TMN: a task with a wide metric and one with a narrow, noisy one


def mixed_scales(rng: np.random.Generator) -> World:
    """Half of the prompts are right or wrong. The others are scored by a metric around 0.5 with a spread of 0.05; on
    half of them nearly all actions are worth the same, and what differs is noise."""
    binary_PA = rng.random((32, 16))
    spread_P1 = np.where(np.arange(32) % 2, 0.05, 0.002)[:, None]
    narrow_PA = 0.5 + spread_P1 * rng.standard_normal((32, 16))
    means_PAK = np.full((64, 16, 2), np.nan)
    means_PAK[:32, :, 0], means_PAK[32:, :, 1] = binary_PA, narrow_PA
    return World(means_PAK=means_PAK, noise_K=[0, 0.02], drawn_K=[True, False], tasks_P=["qa"] * 32 + ["sum"] * 32)


def relative(world: World, policy_PA: Floats) -> float:
    """The mean over prompts of where the policy stands between the mean action (0) and the best one (1)."""
    means_PA = np.nansum(world.means_PAK, axis=2)
    mean_P, best_P = means_PA.mean(axis=1), means_PA.max(axis=1)
    return float(((np.einsum("pa,pa->p", policy_PA, means_PA) - mean_P) / (best_P - mean_P)).mean())


# PAR: a reward model that overrates one kind of answer


def hackable(rng: np.random.Generator) -> World:
    """Column 0 is the reward model's raw score, column 1 the true worth. One action in eight is overrated by 3 to 8."""
    true_PA = rng.standard_normal((64, 16))
    hacked_PA = rng.random((64, 16)) < 1 / 8
    raw_PA = true_PA + hacked_PA * rng.uniform(3, 8, (64, 16))
    worth_PA = np.where(hacked_PA, -1.0, true_PA)
    return World(
        means_PAK=np.stack([raw_PA, worth_PA], -1), noise_K=[0.1, 0], drawn_K=[False, False], tasks_P=["a"] * 64
    )


REFERENCES = np.linspace(0.5, 1.5, 5).tolist()  # scores of five good answers


def shaped(rewards_BGK: Floats) -> Floats:
    """PAR of the first reward."""
    done = rewards_BGK.copy()
    done[..., 0] = np.vectorize(lambda score: par(score, REFERENCES))(rewards_BGK[..., 0])
    return done


# Dynamic sampling, and the label as a rollout


def mostly_dead(rng: np.random.Generator) -> World:
    """Most prompts are solved or hopeless: all of their actions are right, or none is."""
    right_PA = np.where(rng.random((256, 1)) < 0.5, 1.0, 0.0) * np.ones((256, 16))
    live = rng.random(256) < 0.2
    right_PA[live] = (rng.random((int(live.sum()), 16)) < 1 / 8).astype(float)
    return World(means_PAK=right_PA[..., None], noise_K=[0], drawn_K=[True], tasks_P=["a"] * 256)


def never_sampled(rng: np.random.Generator) -> World:
    """One of sixteen actions is right, and the policy takes it once in e^9 times."""
    labels = rng.integers(16, size=64)
    right_PA = np.eye(16)[labels]
    return World(
        means_PAK=right_PA[..., None], noise_K=[0], drawn_K=[True], tasks_P=["a"] * 64,
        start_PA=-9.0 * right_PA, label_P=labels.tolist(),
    )  # fmt: skip


ESTIMATORS: dict[str, Claim] = {
    "gdpo": Claim(
        paper="GDPO (2601.05242)",
        claim="rewards of unequal scale are all learned if each is standardised before they are summed",
        setting="a reward of 0 or 1 and one of 0 to 0.02; the mean of both over their scales, GDPO - GRPO",
        world=unequal_scales,
        new=Arm(estimator="gdpo"),
        old=Arm(estimator="grpo"),
        measure=_mean([1.0, 0.02]),
    ),
    "whiten_task": Claim(
        paper="GDPO, whitened per task (ours)",
        claim="a task with one reward is not outweighed by a task with four",
        setting="the first reward of the task with one, whiten: task - whiten: batch",
        world=unequal_tasks,
        new=Arm(estimator="gdpo", options={"whiten": "task"}),
        old=Arm(estimator="gdpo"),
        measure=_of_task("one"),
        tuned_by=lambda world, policy: float(earned(world, policy)[:, 0].mean()),
    ),
    "tmn": Claim(
        paper="TMN (2605.19577)",
        claim="the scale of the task, instead of the prompt's, keeps prompts of tiny spread from weighing most",
        setting="right-or-wrong questions and a narrow, noisy metric; progress to the best action, TMN - GRPO",
        world=mixed_scales,
        new=Arm(estimator="tmn", options={"alpha": 0.8}),
        old=Arm(estimator="grpo"),
        measure=relative,
    ),
    "par": Claim(
        paper="PAR (2502.18770)",
        claim="a bounded preference over references is hacked less than the raw score",
        setting="a reward model that overrates one answer in eight; the true worth, PAR - raw score, no division",
        world=hackable,
        new=Arm(estimator="dr_grpo", weights_K=[1, 0], world=lambda world: replace(world, seen=shaped)),
        old=Arm(estimator="dr_grpo", weights_K=[1, 0]),
        measure=lambda world, policy: float(earned(world, policy)[:, 1].mean()),
        tuned_by=lambda world, policy: float(np.einsum("pa,pa->p", policy, world.seen(world.means_PAK)[..., 0]).mean()),
        rollouts=5_000,
    ),
    "dynamic_sampling": Claim(
        paper="DAPO (2503.14476)",
        claim="drawing other prompts in the place of dead groups teaches more, at equal rollouts",
        setting="256 prompts, four of five solved or hopeless; the mean score, two refills - none",
        world=mostly_dead,
        new=Arm(estimator="grpo", refills=2),
        old=Arm(estimator="grpo"),
        measure=_mean([1.0]),
    ),
    "visurf": Claim(
        paper="ViSurf (2510.10606)",
        claim="the label as a rollout teaches what the policy never samples",
        setting="the right action has probability e^-9; the mean score, ViSurf - GRPO",
        world=never_sampled,
        new=Arm(estimator="visurf", options={"cap": 2.0}),
        old=Arm(estimator="grpo"),
        measure=_mean([1.0]),
    ),
}
