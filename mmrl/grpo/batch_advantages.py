"""The advantages of a generation step, and the metrics about its rewards.

Shapes: N = P * G rows of all processes, P prompts, G completions each, B rows of this process, K rewards.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmrl.advantages import ADVANTAGES, dead_groups, options_of, statistics
from mmrl.advantages.arrays import as_array, mixed
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.estimator_data import EstimatorBatch, estimator_data
from mmrl.grpo.injection import Injection
from mmrl.grpo.pair_sampler import pair_metrics
from mmrl.trainers.monitor import DEAD
from rewards import Suite, Verdict


@dataclass(frozen=True, slots=True)
class Estimated:
    """The advantages of the rows of all processes, what there is to log, and whether no reward had a verdict on any."""

    advantages_N: Tensor
    metrics: dict[str, float]
    silent: bool


class Estimation:
    """Gives the rewards of all processes to the estimator."""

    def __init__(
        self, suite: Suite, estimator: str, options: Mapping[str, Any], inject: Injection | None = None
    ) -> None:
        self.suite = suite
        self.estimator = functools.partial(ADVANTAGES[estimator], **options)
        self.takes = options_of(estimator)  # what the estimator can use of a batch
        self.compared_K = options.get("compared_K")
        self.inject = inject

    def __call__(self, batch: RolloutBatch, group: int, weights: Any, *, whole: bool = True) -> Estimated:
        """Of the rows of this process, groups of `group` next to each other; `weights` are those of the rewards."""
        names = self.suite.names
        rewards_PGK = gathered(batch.rewards_BK).view(-1, group, len(names))
        injected_PG = gathered(batch.injected_B).view(-1, group)
        tasks_P = gather_object([sample["task"] for sample in batch.samples])[::group]
        given = EstimatorBatch(batch, group, self.suite, self.inject, self.compared_K, whole=whole)
        options = estimator_data(self.takes, given)
        weights_K = torch.as_tensor(weights).to(rewards_PGK)
        advantages_PG = self.estimator(rewards_PGK, weights_K, **options)

        counted_PGK = rewards_PGK[..., weights_K != 0]  # a reward of weight 0 is only watched
        silent = bool(counted_PGK.isnan().all())
        dead = dead_groups(counted_PGK).all(dim=1)
        own_PGK = rewards_PGK.masked_fill(injected_PG.unsqueeze(-1), float("nan"))
        metrics = statistics(own_PGK, advantages_PG, names, tasks_P, weights_K=self.suite.weights)
        if "pairs_P" in self.takes:
            metrics |= pair_metrics(rewards_PGK, advantages_PG, options, self.compared_K)
            dead = (advantages_PG == 0).all(dim=1)
        metrics |= {"steps_without_verdict": float(silent), DEAD: dead.float().mean().item()}
        return Estimated(advantages_PG.flatten(), metrics, silent)

    def of_rows(
        self,
        samples: Sequence[Mapping[str, Any]],
        verdicts: Sequence[Mapping[str, Verdict]],
        rewards_BK: Tensor,
        group: int,
    ) -> Estimated:
        """The same of rows that are no chains of tokens, weighed as the suite says."""
        none_B = torch.zeros(len(samples), dtype=torch.bool, device=rewards_BK.device)
        batch = RolloutBatch(rows=(), samples=samples, verdicts=verdicts, rewards_BK=rewards_BK, injected_B=none_B)
        return self(batch, group, self.suite.weights)


def as_rewards(verdicts: Sequence[Mapping[str, Verdict]]) -> Tensor:
    """[B, K]: the scores, NaN where there is none."""
    return torch.tensor([[float("nan") if v.score is None else v.score for v in row.values()] for row in verdicts])


def reward_means(suite: Suite, rewards_BK: Tensor) -> dict[str, float]:
    """The mean of each reward over all processes, and the weighted sum of these."""
    means = gathered(rewards_BK).nanmean(dim=0).tolist()
    named = {f"rewards/{name}/mean": mean for name, mean in zip(suite.names, means, strict=True)}
    return {**named, "reward": float(mixed(np.array(means), as_array(suite.weights)))}


class BatchAdvantages:
    """The advantages of a generation of TRL's trainer; replaces what TRL logged about its own."""

    def __init__(self, trainer: Any, estimation: Estimation) -> None:
        self.trainer = trainer
        self.estimation = estimation
        self.silent = False  # no reward had a verdict on any rollout of the last training step

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """[N] advantages of the rows of all processes."""
        training = self.trainer.model.training
        group = self.trainer.num_generations if training else self.trainer.num_generations_eval
        found = self.estimation(batch, group, self.trainer.reward_weights, whole=training)
        metrics = self.trainer._metrics["train" if training else "eval"]
        if training:
            self.silent = found.silent
        metrics[DEAD][-1] = found.metrics.pop(DEAD)
        for name, value in found.metrics.items():
            metrics[name].append(value)
        self._replace_logged(found.advantages_N.tolist())
        return found.advantages_N

    def _replace_logged(self, advantages: Sequence[float]) -> None:
        """Put our advantages in the place of the last ones in TRL's table of completions."""
        logged = self.trainer._logs["advantages"]
        for _ in range(min(len(advantages), len(logged))):
            logged.pop()
        logged.extend(advantages)
