"""Rewards reshaped: against the scores of reference answers to the same prompt, or against the rest of the group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from rewards.base import Reward, Rollout, Verdict, abstain, failed
from rewards.parse.strings import gold_texts

Method = Literal["par", "clip", "center", "calibrate"]
REFERENCE_SCORES = "reference_scores"  # where a rollout's meta may hold the scores of reference answers

_SURE = 1e-6  # scores this near to 0 and 1 have a finite logit


def shape(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    method: Method = "par",
    steepness: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    logit: bool = False,
    low: float = 0.0,
    high: float = 1.0,
    tilt: Annotated[float, Field(ge=-100, le=100)] = 0.0,
) -> list[Verdict]:
    """`reward` in another shape, mostly relative to the scores of reference answers to the same prompt.

    These scores are in `meta["reference_scores"]`, else `reward` scores the gold texts; without any the reward fails,
    rather than give the bare score. `logit=True` first inverts the sigmoid of a scalar head, for all scores. `method`:

    - `par` (PAR, 2502.18770): mean over references of sigmoid(`steepness` * (score - reference)).
    - `center`: mean of score - reference. `clip`: the score between `low` and `high`, without references.
    - `calibrate` (InfAlign, 2412.19792): the share of references below the score, equal ones counting half, C; with a
      `tilt` t > 0 exp(t (C - 1)) for best-of-n, with t < 0 -exp(t C) for worst-of-n.

    >>> half = lambda rollouts: [Verdict(0.4)] * len(rollouts)
    >>> completions = [Rollout("", meta={"reference_scores": [0.1, 0.4, 0.4, 0.9]})]
    >>> shape(completions, reward=half, method="calibrate")[0].score
    0.5
    """
    if not low <= high:
        raise ValueError(f"low {low} is above high {high}")
    verdicts = reward(rollouts)
    if method == "clip":
        return [_changed(verdict, min(max(verdict.score or 0.0, low), high)) for verdict in verdicts]
    references = _references(rollouts, reward)
    shaped = []
    for verdict, found in zip(verdicts, references, strict=True):
        if verdict.score is None or isinstance(found, Verdict):
            shaped.append(verdict if verdict.score is None or not isinstance(found, Verdict) else found)
            continue
        score, others = (_logit(verdict.score), [*map(_logit, found)]) if logit else (verdict.score, found)
        if method == "par":
            value = par(score, others, steepness)
        elif method == "center":
            value = min(max(centered(score, others), -1.0), 1.0)
        else:
            value = tilted(calibrated(score, others), tilt)
        shaped.append(_changed(verdict, value))
    return shaped


def group_rank(rollouts: Sequence[Rollout], *, reward: Reward) -> list[Verdict]:
    """The share of the other rollouts of the group that `reward` scores lower, equal ones counting half.

    >>> by_length = lambda rollouts: [Verdict(min(len(rollout.completion) / 10, 1.0)) for rollout in rollouts]
    >>> [v.score for v in group_rank([Rollout("x" * n, group=1) for n in (1, 5, 5, 9)], reward=by_length)]
    [0.0, 0.5, 0.5, 1.0]
    """
    verdicts = reward(rollouts)
    groups: dict[Any, list[float]] = {}
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        if verdict.score is not None:
            groups.setdefault(rollout.group, []).append(verdict.score)
    ranked = []
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        scores = groups.get(rollout.group, [])
        if verdict.score is None:
            ranked.append(verdict)
        elif rollout.group is None or len(scores) < 2:
            ranked.append(abstain("no group to rank in"))
        else:
            below = calibrated(verdict.score, scores) * len(scores) - 0.5  # without itself
            ranked.append(_changed(verdict, below / (len(scores) - 1)))
    return ranked


def par(score: float, references: Sequence[float], steepness: float = 1.0) -> float:
    """Preference As Reward: how likely the score is to win against the references (2502.18770).

    >>> round(par(2, [1, 1.5, 0.5]), 7), round(par(2, [1, 1.5, 0.5], 2), 7)
    (0.7236975, 0.8548099)
    """
    return _mean(_sigmoid(steepness * (score - reference)) for reference in references)


def centered(score: float, references: Sequence[float]) -> float:
    """The mean lead of the score over the references (2502.18770).

    >>> centered(2, [1, 1.5, 0.5])
    1.0
    """
    return _mean(score - reference for reference in references)


def calibrated(score: float, references: Sequence[float]) -> float:
    """The share of references below the score, equals counting half (InfAlign, 2412.19792)."""
    return _mean((reference < score) + (reference == score) / 2 for reference in references)


def tilted(share: float, tilt: float) -> float:
    """InfAlign's transformations of a calibrated score, in (0, 1] for best-of-n and in [-1, 0) for worst-of-n.

    >>> round(tilted(0.5, 10), 7), round(tilted(0.5, -10), 7), tilted(0.5, 0)
    (0.0067379, -0.0067379, 0.5)
    """
    if tilt == 0:
        return share
    return math.exp(tilt * (share - 1)) if tilt > 0 else -math.exp(tilt * share)


def _references(rollouts: Sequence[Rollout], reward: Reward) -> list[list[float] | Verdict]:
    """The scores of the references of each rollout, or the failure to have any; all gold texts are scored at once."""
    texts = [[] if rollout.meta.get(REFERENCE_SCORES) else gold_texts(rollout) for rollout in rollouts]
    asked = [replace(rollout, completion=text) for rollout, mine in zip(rollouts, texts, strict=True) for text in mine]
    answers = iter(reward(asked) if asked else ())
    found: list[list[float] | Verdict] = []
    for rollout, mine in zip(rollouts, texts, strict=True):
        given = rollout.meta.get(REFERENCE_SCORES)
        scored = [score for _ in mine if (score := next(answers).score) is not None]
        listed = [*given, *scored] if isinstance(given, Sequence) else scored
        scores = [float(number) for number in listed if isinstance(number, int | float) and math.isfinite(number)]
        found.append(scores or failed("no reference scores to shape against"))
    return found


def _changed(verdict: Verdict, score: float) -> Verdict:
    if verdict.score is None:
        return verdict
    return Verdict(score, f"{verdict.why} (from {verdict.score:.3f})".strip(), verdict.kind)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _logit(score: float) -> float:
    bounded = min(max(score, _SURE), 1 - _SURE)
    return math.log(bounded / (1 - bounded))
