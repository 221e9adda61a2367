"""What the trainer can give an estimator about a batch, by the name of the estimator's option.

An estimator says with its signature what it takes (`mmrl.advantages.batch_data_of`). To give estimators something new,
add a function of `EstimatorBatch` to `PROVIDED`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from mmrl.core.config import InputError
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.injection import Injection
from mmrl.grpo.pair_sampler import is_unparsed, pair_labels
from rewards import Suite, Verdict

DEMONSTRATION_SCORES = "demonstration_scores"  # where a sample's meta may hold the gold answer's scores, by reward
SIMILARITY = "clause_similarity"  # the reward that says how near an answer is to the gold


@dataclass(frozen=True, slots=True)
class EstimatorBatch:
    """The scored rows of this process, and what is needed to group the rows of all processes by prompt."""

    batch: RolloutBatch
    group: int  # rollouts of a prompt
    suite: Suite
    inject: Injection | None
    compared_K: Sequence[bool] | None
    whole: bool  # every pair has both its sides in the batch

    def of_prompts(self, column: str) -> list[Any]:
        """The value of a dataset column for each prompt, of all processes."""
        return gather_object([sample[column] for sample in self.batch.samples])[:: self.group]


def _failed(given: EstimatorBatch) -> np.ndarray:
    failed = [is_unparsed(verdicts, given.suite.names, given.compared_K) for verdicts in given.batch.verdicts]
    return np.array(gather_object(failed), dtype=bool).reshape(-1, given.group)


def _injected(given: EstimatorBatch) -> Any:
    return gathered(given.batch.injected_B).view(-1, given.group)


def _thinking(given: EstimatorBatch) -> list[bool]:
    return [given.inject is not None and name in given.inject.unrewarded for name in given.suite.names]


def _hardness(given: EstimatorBatch) -> np.ndarray | None:
    """[P, G]: 1 less the similarity to the demonstration; None if no reward of the suite gives it."""
    places = _similarities(given.suite)
    if not places:
        return None
    near_B = given.batch.rewards_BK[:, places[0]]
    return 1 - gathered(near_B).view(-1, given.group).cpu().numpy()


def _gaps(given: EstimatorBatch) -> np.ndarray:
    """[P, G]: the weighted score less that of the demonstration."""
    weights = dict(zip(given.suite.names, given.suite.weights, strict=True))
    rows = zip(given.batch.samples, given.batch.verdicts, strict=True)
    gaps = [gap(verdicts, sample["meta"].get(DEMONSTRATION_SCORES) or {}, weights) for sample, verdicts in rows]
    return np.array(gather_object(gaps), dtype=float).reshape(-1, given.group)


def gap(verdicts: Mapping[str, Verdict], gold: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """By how much verdicts are better than the scores of the gold answer, over the rewards that scored both; NaN where
    there is none.

    >>> round(gap({"a": Verdict(0.5), "b": Verdict(None)}, {"a": 1.0, "b": 1.0}, {"a": 0.4, "b": 1.0}), 3)
    -0.2
    """
    scores = {name: verdicts[name].score for name, weight in weights.items() if weight and name in gold}
    both = [weights[name] * (score - gold[name]) for name, score in scores.items() if score is not None]
    return sum(both) if both else float("nan")


def _similarities(suite: Suite) -> list[int]:
    return [place for place, spec in enumerate(suite.specs.values()) if spec.fn == SIMILARITY]


def check_demonstrations(suite: Suite, metas: Iterable[Mapping[str, Any]]) -> None:
    """Refuse what tells grpo_s nothing: no sample with scores of its gold answer, and no reward for the similarity."""
    if len(_similarities(suite)) > 1:
        raise InputError(f"several rewards are {SIMILARITY}; grpo_s takes its hardness from one")
    counted = {name for name, weight in zip(suite.names, suite.weights, strict=True) if weight}
    known = [scores for meta in metas if (scores := meta.get(DEMONSTRATION_SCORES))]
    if known and not any(counted & scores.keys() for scores in known):
        raise InputError(
            f"meta.{DEMONSTRATION_SCORES} has scores by {', '.join(sorted(known[0]))}, and the rewards are "
            f"{', '.join(sorted(counted))}; score the gold answers by the rewards of the training"
        )
    if not known and not _similarities(suite):
        raise InputError(
            f"grpo_s needs scores of the gold answers in meta.{DEMONSTRATION_SCORES} (mmrl data score CONFIG "
            f"demonstrations=true), or a reward with fn: {SIMILARITY}, with weight 0 if it is not to count"
        )


# Every process makes the same calls in the same order, because they gather.
PROVIDED: Mapping[str, Callable[[EstimatorBatch], Any]] = {
    "tasks_P": lambda given: given.of_prompts("task"),
    "pairs_P": lambda given: pair_labels(given.of_prompts("meta"), whole=given.whole),
    "preferred_P": lambda given: [meta["preferred"] for meta in given.of_prompts("meta")],
    "failed_PG": _failed,
    "injected_PG": _injected,
    "thinking_K": _thinking,
    "hardness_PG": _hardness,
    "gaps_PG": _gaps,
}


def estimator_data(options: Collection[str], given: EstimatorBatch) -> dict[str, Any]:
    """The values of those `options` of an estimator that depend on the batch."""
    return {name: value(given) for name, value in PROVIDED.items() if name in options}
