"""The advantages of a generation step, and the metrics about its rewards.

Shapes: N = P * G rows of all processes, P prompts, G completions each, B rows of this process, K rewards.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor

from mmrl.advantages import ADVANTAGES, dead_groups, options_of, statistics
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.estimator_data import EstimatorBatch, estimator_data
from mmrl.grpo.injection import Injection
from mmrl.grpo.pair_sampler import pair_metrics
from rewards import Suite


class BatchAdvantages:
    """Gives the rewards of all processes to the estimator, and replaces what TRL logged about its own advantages."""

    def __init__(
        self, trainer: Any, suite: Suite, estimator: str, options: Mapping[str, Any], inject: Injection | None
    ) -> None:
        self.trainer = trainer
        self.suite = suite
        self.estimator = functools.partial(ADVANTAGES[estimator], **options)
        self.takes = options_of(estimator)  # what the estimator can use of a batch
        self.compared_K = options.get("compared_K")
        self.inject = inject
        self.silent = False  # no reward had a verdict on any rollout of the last training step

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """[N] advantages of the rows of all processes."""
        mode = "train" if self.trainer.model.training else "eval"
        group = self.trainer.num_generations if mode == "train" else self.trainer.num_generations_eval
        names = self.suite.names
        rewards_PGK = gathered(batch.rewards_BK).view(-1, group, len(names))
        injected_PG = gathered(batch.injected_B).view(-1, group)
        tasks_P = gather_object([sample["task"] for sample in batch.samples])[::group]
        given = EstimatorBatch(batch, group, names, self.inject, self.compared_K, whole=mode == "train")
        options = estimator_data(self.takes, given)
        advantages_PG = self.estimator(rewards_PGK, self.trainer.reward_weights.to(rewards_PGK), **options)

        counted_K = self.trainer.reward_weights.to(rewards_PGK) != 0  # a reward of weight 0 is only watched
        counted_PGK, metrics = rewards_PGK[..., counted_K], self.trainer._metrics[mode]
        silent = bool(counted_PGK.isnan().all())
        metrics["steps_without_verdict"].append(float(silent))
        if mode == "train":
            self.silent = silent
        metrics["frac_reward_zero_std"][-1] = dead_groups(counted_PGK).all(dim=1).float().mean().item()
        own_PGK = rewards_PGK.masked_fill(injected_PG.unsqueeze(-1), float("nan"))
        values = statistics(own_PGK, advantages_PG, names, tasks_P, weights_K=self.suite.weights)
        if "pairs_P" in self.takes:
            values |= pair_metrics(rewards_PGK, advantages_PG, options, self.compared_K)
            metrics["frac_reward_zero_std"][-1] = (advantages_PG == 0).all(dim=1).float().mean().item()
        for name, value in values.items():
            metrics[name].append(value)
        advantages_N = advantages_PG.flatten()
        self._replace_logged(advantages_N.tolist())
        return advantages_N

    def _replace_logged(self, advantages: Sequence[float]) -> None:
        """Put our advantages in the place of the last ones in TRL's table of completions."""
        logged = self.trainer._logs["advantages"]
        for _ in range(min(len(advantages), len(logged))):
            logged.pop()
        logged.extend(advantages)
