"""What the trainer can give an estimator about a batch, by the name of the estimator's option.

An estimator says with its signature what it takes (`mmrl.advantages.batch_data_of`). To give estimators something new,
add a function of `EstimatorBatch` to `PROVIDED`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.injection import Injection
from mmrl.grpo.pair_sampler import is_unparsed, pair_labels


@dataclass(frozen=True, slots=True)
class EstimatorBatch:
    """The scored rows of this process, and what is needed to group the rows of all processes by prompt."""

    batch: RolloutBatch
    group: int  # rollouts of a prompt
    rewards: Sequence[str]  # their names
    inject: Injection | None
    compared_K: Sequence[bool] | None
    whole: bool  # every pair has both its sides in the batch

    def of_prompts(self, column: str) -> list[Any]:
        """The value of a dataset column for each prompt, of all processes."""
        return gather_object([sample[column] for sample in self.batch.samples])[:: self.group]


def _failed(given: EstimatorBatch) -> np.ndarray:
    failed = [is_unparsed(verdicts, given.rewards, given.compared_K) for verdicts in given.batch.verdicts]
    return np.array(gather_object(failed), dtype=bool).reshape(-1, given.group)


def _injected(given: EstimatorBatch) -> Any:
    return gathered(given.batch.injected_B).view(-1, given.group)


def _thinking(given: EstimatorBatch) -> list[bool]:
    return [given.inject is not None and name in given.inject.unrewarded for name in given.rewards]


# Every process makes the same calls in the same order, because they gather.
PROVIDED: Mapping[str, Callable[[EstimatorBatch], Any]] = {
    "tasks_P": lambda given: given.of_prompts("task"),
    "pairs_P": lambda given: pair_labels(given.of_prompts("meta"), whole=given.whole),
    "preferred_P": lambda given: [meta["preferred"] for meta in given.of_prompts("meta")],
    "failed_PG": _failed,
    "injected_PG": _injected,
    "thinking_K": _thinking,
}


def estimator_data(options: Collection[str], given: EstimatorBatch) -> dict[str, Any]:
    """The values of those `options` of an estimator that depend on the batch."""
    return {name: value(given) for name, value in PROVIDED.items() if name in options}
