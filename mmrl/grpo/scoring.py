"""Scores the rollouts of a step by a suite of rewards. Shapes: N rows of all processes, B of this one, K rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.core.vision import CoordinateSpace
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.batch_advantages import as_rewards
from mmrl.grpo.injection import lengths_logged
from mmrl.grpo.rollouts import rollout_of
from rewards import Suite


class RolloutScoring:
    """Asks the suite for the verdicts on a batch; keeps injected gold answers out of what TRL logs."""

    def __init__(self, trainer: Any, suite: Suite, space: CoordinateSpace, *, injects: bool) -> None:
        self.trainer = trainer
        self.suite = suite
        self.space = space
        self.injects = injects

    def __call__(self, batch: RolloutBatch, completions: Sequence[Any], completion_ids: Sequence[Any]) -> Tensor:
        """[N, K] scores as TRL logs them, NaN for injected rows.

        Sets `batch.completions`, `batch.verdicts` and `batch.rewards_BK`.
        """
        state = self.trainer.state
        if batch.own:  # results of tools are no words of the policy
            completions = ["\n".join(turn.said for turn in turns) for turns in batch.turns]
        rollouts = [
            rollout_of(sample, completion, encoded, self.space, state.global_step, state.max_steps, turns)
            for sample, completion, encoded, turns in zip(
                batch.samples, completions, batch.rows, batch.turns, strict=True
            )
        ]
        batch.verdicts = self.suite.score(rollouts)
        batch.rewards_BK = as_rewards(batch.verdicts).to(self.trainer.accelerator.device)
        counts = list(map(sum, batch.own)) if batch.own else list(map(len, completion_ids))
        batch.completions = [(r.completion, count) for r, count in zip(rollouts, counts, strict=True)]
        if self.injects and self.trainer.model.training:
            self._log_lengths(completion_ids, batch.injected_B)
        return gathered(batch.rewards_BK.masked_fill(batch.injected_B.unsqueeze(1), float("nan")))

    def _log_lengths(self, completion_ids: Sequence[Sequence[int]], injected_B: Tensor) -> None:
        """Replace the lengths that TRL has logged by those of the policy's own completions."""
        lengths_N = gathered(torch.tensor([len(ids) for ids in completion_ids], device=injected_B.device))
        ends = self.trainer.eos_token_ids
        ended_N = gathered(torch.tensor([ids[-1] in ends for ids in completion_ids]).to(injected_B))
        for name, value in lengths_logged(lengths_N, ended_N, gathered(injected_B)).items():
            self.trainer._metrics["train"][name][-1] = value
