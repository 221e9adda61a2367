"""Online distillation: a teacher labels a share of a training's rollouts beside it, a small student answers (ONI)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from rewards.base import Reward, Rollout, Verdict, abstain, failed
from rewards.composed.labels import Labels, Version
from rewards.heads.reward_model import Batch, ModelName


def student(
    rollouts: Sequence[Rollout],
    *,
    teacher: Reward,
    model: ModelName,
    labels: str,
    share: Annotated[float, Field(gt=0, le=1)] = 0.25,
    every: PositiveInt = 1,
    at_least: Annotated[int, Field(ge=2)] = 16,
    batch: Batch = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """What a small head expects the `teacher` to say, which is asked about a `share` of the groups (ONI, 2410.23022).

    The teacher, a judge for example, labels whole groups in a thread of its own while training goes on. The student is
    a linear layer on the last hidden states of `model`, a frozen checkpoint or a reward head: ridge regression on the
    newest 2,048 labels, within their range. Every `every` steps there is a new version, of the labels of all steps
    before; it answers for all groups of these steps, so that no group has two versions. Before `at_least` labels
    nothing has a verdict, which is neutral. `labels` is a folder of this reward alone: what was asked, what the teacher
    said and what the student had said. A run that resumes reads it, and asks about nothing twice. Outside a training
    the labels that are there answer.
    """
    from rewards.heads.embeddings_torch import last_states

    if not rollouts:
        return []
    known, step = _labels(labels, teacher), rollouts[0].step
    if step is not None:
        known.begin(step)
    found: list[Any] = last_states(rollouts, model=model, device=device, dtype=dtype, batch=batch)
    version = known.version(step, every=every)
    verdicts = [state if isinstance(state, Verdict) else _answer(version, state, at_least) for state in found]
    if step is not None:
        chosen = [
            (rollout, state, verdict)
            for rollout, state, verdict in zip(rollouts, found, verdicts, strict=True)
            if not isinstance(state, Verdict) and asked(step, rollout.group, share)
        ]
        known.ask(chosen)
    return verdicts


def asked(step: int, group: object, share: float) -> bool:
    """Whether the teacher is asked about a group at a step: drawn by hashing, the same in every process."""
    return int(hashlib.sha256(f"{step} {group}".encode()).hexdigest()[:8], 16) < share * 16**8


def _answer(version: Version, state: Any, at_least: int) -> Verdict:
    if version.labels >= at_least:
        return Verdict(version.score(state), f"student of step {version.before}, {version.labels} labels")
    if version.failed > max(version.labels, at_least):
        return failed(f"the teacher failed on {version.failed} of {version.failed + version.labels}: {version.cause}")
    return abstain(f"no student yet: {version.labels} of {at_least} labels")


@functools.lru_cache(maxsize=4)
def _labels(labels: str, teacher: Reward) -> Labels:
    return Labels(Path(labels), teacher)
