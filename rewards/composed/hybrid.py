"""Rewards made of rewards: by rule where there is one, by model elsewhere, one depending on another or on the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field, NonNegativeInt

from rewards.base import Reward, Rollout, Verdict, failed, progress

Share = Annotated[float, Field(ge=0, le=1)]


def fallback(rollouts: Sequence[Rollout], *, rule: Reward, model: Reward) -> list[Verdict]:
    """The verdict of `rule`; `model` is asked only where the rule abstains (HARMO's routing, 2510.05283, eq. 1).

    The rule abstains on a task or a gold that it cannot judge. An answer that it cannot read scores 0, and a rule that
    failed gives no verdict: neither is a way past the rule to the model.

    >>> from rewards.rules.exact_match import text_match, yesno_match
    >>> completions = [Rollout("perhaps", "no"), Rollout("Paris", "Paris")]
    >>> [verdict.score for verdict in fallback(completions, rule=yesno_match, model=text_match)]
    [0.0, 1.0]
    """
    verdicts = rule(rollouts)
    open_rows = [i for i, verdict in enumerate(verdicts) if verdict.kind == "abstained"]
    answers = model([rollouts[i] for i in open_rows]) if open_rows else []
    by_row = dict(zip(open_rows, answers, strict=True))
    return [by_row.get(i, verdict) for i, verdict in enumerate(verdicts)]


def partial_credit(
    rollouts: Sequence[Rollout], *, rule: Reward, model: Reward, share: Annotated[float, Field(ge=0, lt=1)] = 2 / 3
) -> list[Verdict]:
    """The score of `rule`; where it is 0, `share` of the score of `model`, which is asked about these answers alone.

    Reasoning-SQL's judge counts 2 where the query gives the wrong rows, beside 3 for the right ones (2503.23157). An
    answer that the rule cannot read stays at 0. Where the model has no verdict there is none, so that the rollouts of a
    group are never on two scales.

    >>> from rewards.rules.exact_match import yesno_match
    >>> from rewards.rules.format import think_format
    >>> answers = [Rollout(f"<think>I see</think><answer>{word}</answer>", "no") for word in ("no", "yes", "perhaps")]
    >>> credit = partial_credit([*answers, Rollout("yes", "no")], rule=yesno_match, model=think_format, share=0.5)
    >>> [verdict.score for verdict in credit]
    [1.0, 0.5, 0.0, 0.0]
    """
    verdicts = rule(rollouts)
    wrong = [i for i, verdict in enumerate(verdicts) if verdict.score == 0 and verdict.kind != "unparsed"]
    credit = model([rollouts[i] for i in wrong]) if wrong else []
    by_row = {i: _times(verdict, share) for i, verdict in zip(wrong, credit, strict=True)}
    return [by_row.get(i, verdict) for i, verdict in enumerate(verdicts)]


def blend(
    rollouts: Sequence[Rollout], *, rule: Reward, model: Reward, confidence: Share = 0.5, confidence_key: str = ""
) -> list[Verdict]:
    """confidence * rule + (1 - confidence) * model; the model alone where the rule abstains (HARMO, 2510.05283).

    `rule` and `model` are rewards. The confidence in the rule is the option `confidence`, or the value under
    `confidence_key` in the rollout's meta. If a part that counts has no verdict, the blend has none, so that the
    rollouts of a group are never on two scales.

    >>> from rewards.rules.exact_match import yesno_match
    >>> from rewards.rules.format import think_format
    >>> blend([Rollout("no", "no")], rule=yesno_match, model=think_format, confidence=0.75)[0].score
    0.75
    """
    pairs = zip(rollouts, rule(rollouts), model(rollouts), strict=True)
    return [
        _mixed(by_rule, by_model, _confidence(rollout, confidence, confidence_key))
        for rollout, by_rule, by_model in pairs
    ]


def gate(rollouts: Sequence[Rollout], *, reward: Reward, when: Reward, threshold: Share = 1.0) -> list[Verdict]:
    """`reward` where `when` scores `threshold` or more, else 0 (GDPO's conditioned reward, 2601.05242, eq. 8).

    A penalty stays: a completion that fails the condition must not escape it. No verdict on the condition is no
    verdict.

    >>> from rewards.rules.lengths import length_window
    >>> from rewards.rules.exact_match import yesno_match
    >>> completions = [Rollout("no", "no"), Rollout("no " * 9, "no"), Rollout("no", "yes")]
    >>> short = lambda rollouts: length_window(rollouts, high=5)
    >>> [verdict.score for verdict in gate(completions, reward=short, when=yesno_match)]
    [1.0, 0.0, 0.0]
    """
    verdicts = []
    for verdict, condition in zip(reward(rollouts), when(rollouts), strict=True):
        if condition.score is None or verdict.score is None:
            verdicts.append(condition if condition.score is None else verdict)
        elif condition.score >= threshold:
            verdicts.append(verdict)
        else:
            why = f"condition {condition.score:.3f} < {threshold:g}"
            verdicts.append(Verdict(min(verdict.score, 0.0), why, verdict.kind))
    return verdicts


def progressive(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    schedule: Annotated[dict[Annotated[float, Field(gt=0, le=1)], Reward], Field(min_length=1)],
) -> list[Verdict]:
    """`reward` first, and from each share of the training in `schedule` on the reward given there (Vision-R1).

    Source: 2503.18013. The share is the rollout's step / total_steps; where it is unknown the first reward holds.
    Vision-R1 raises its thresholds at half of the training: {0.5: {fn: box_iou, args: {threshold: 0.75}}}.

    >>> first, later = (lambda rows: [Verdict(0.0)] * len(rows)), (lambda rows: [Verdict(1.0)] * len(rows))
    >>> completions = [Rollout("", step=step, total_steps=10) for step in (4, 5)]
    >>> [verdict.score for verdict in progressive(completions, reward=first, schedule={0.5: later})]
    [0.0, 1.0]
    """
    stages: Mapping[float, Reward] = {0.0: reward, **schedule}
    begun = [max(start for start in stages if start <= (progress(rollout) or 0.0)) for rollout in rollouts]
    column: dict[int, Verdict] = {}
    for start in set(begun):
        rows = [i for i, stage in enumerate(begun) if stage == start]
        column.update(zip(rows, stages[start]([rollouts[i] for i in rows]), strict=True))
    return [column[i] for i in range(len(rollouts))]


def scheduled(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    start: Share,
    end: Share,
    first: NonNegativeInt = 0,
    last: NonNegativeInt,
) -> list[Verdict]:
    """`reward` times a factor: `start` up to the optimizer step `first`, `end` from `last` on, in a line between.

    The schedules of ToolRL (2504.13958). Its format reward falls from a range of 4 to 2 over 150 steps, and correctness
    rises from 4 to 6: `{weight: 4, start: 1, end: 0.5, last: 150}` and `{weight: 6, start: 0.6667, end: 1, last: 150}`.
    Its two stages change at step 30: `first: 30, last: 30`. Where the step is not known the factor is `end`. The
    estimator must keep scales (`grpo`, not `gdpo`, which standardises each reward).

    >>> one = lambda rollouts: [Verdict(1.0)] * len(rollouts)
    >>> completions = [Rollout("", step=step) for step in (0, 75, 150)]
    >>> [verdict.score for verdict in scheduled(completions, reward=one, start=1.0, end=0.5, last=150)]
    [1.0, 0.75, 0.5]
    """
    if first > last:
        raise ValueError(f"first {first} is after last {last}")
    verdicts = []
    for rollout, verdict in zip(rollouts, reward(rollouts), strict=True):
        step = last if rollout.step is None else rollout.step
        share = 1.0 if step >= last else max(step - first, 0) / max(last - first, 1)
        verdicts.append(_times(verdict, start + (end - start) * share))
    return verdicts


def _times(verdict: Verdict, factor: float) -> Verdict:
    return verdict if verdict.score is None else replace(verdict, score=factor * verdict.score)


def _confidence(rollout: Rollout, confidence: float, key: str) -> float | Verdict:
    given = rollout.meta.get(key, confidence) if key else confidence
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        return failed(f"confidence {given!r} under {key!r} is not in [0, 1]")
    return float(given)


def _mixed(rule: Verdict, model: Verdict, confidence: float | Verdict) -> Verdict:
    if isinstance(confidence, Verdict):
        return confidence
    if rule.kind == "abstained" or confidence == 0:
        return model
    if rule.score is None or confidence == 1:
        return rule
    if model.score is None:
        return model
    score = confidence * rule.score + (1 - confidence) * model.score
    kind = "unparsed" if rule.kind == "unparsed" and model.kind == "unparsed" else "scored"
    return Verdict(score, f"rule {rule.score:.3f}, model {model.score:.3f}", kind)
