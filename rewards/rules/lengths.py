"""Rewards for length and repetition. A length is in words, or in characters; signs without blanks are words each."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.base import Reward, Rollout, Verdict, abstain, failed, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.regions import boxes
from rewards.parse.strings import Unit, gold_texts, length, pieces

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@per_rollout
def repetition(rollout: Rollout, *, n: Positive = 6) -> Verdict:
    """A penalty: minus the share of repeated boxes in the answer, or of repeated word `n`-grams, whichever is larger.

    -(1 - distinct / all) (VLM-R1, 2504.07615). The n-grams are those of the whole completion with its thinking, but for
    an answer that has boxes; of what has no blanks they are n-grams of characters.

    >>> [verdict.score for verdict in repetition([Rollout("one two one two one two"), Rollout("one two three")], n=2)]
    [-0.6, 0.0]
    """
    answer = answer_text(rollout.answered) or ""
    named = boxes(answer)
    around = "".join(rollout.completion.rpartition(answer)[::2]) if named else rollout.completion
    all_words = pieces(around)
    grams = list(zip(*(all_words[i:] for i in range(n)), strict=False))
    share, items, kind = max((_repeated(named), named, "boxes"), (_repeated(grams), grams, f"{n}-grams"), key=_share)
    return Verdict(-share if share else 0.0, f"{len(items)} {kind}")


def _repeated(items: Sequence[object]) -> float:
    return 1 - len(set(items)) / len(items) if items else 0.0


def _share(found: tuple[float, Sequence[object], str]) -> tuple[float, bool]:
    return found[0], found[2] == "boxes" and bool(found[1])


@per_rollout
def length_window(
    rollout: Rollout,
    *,
    low: Annotated[int, Field(ge=0)] = 1,
    high: Positive = 200,
    unit: Unit = "words",
    part: Literal["completion", "answer"] = "completion",
) -> Verdict:
    """1 if the completion is `low` to `high` long, else 0; an empty one scores 0.

    `unit` is `words` or `characters`; `part="answer"` measures the answer alone.

    >>> [verdict.score for verdict in length_window([Rollout("a b c"), Rollout("a b c d")], high=3)]
    [1.0, 0.0]
    """
    if low > high:
        raise ValueError(f"low {low} is above high {high}")
    text = rollout.completion if part == "completion" else answer_text(rollout.answered)
    if not text or not text.strip():
        return unparsed("empty completion")
    size = length(text, unit)
    return _sized(float(low <= size <= high), size, unit)


@per_rollout
def overlong(rollout: Rollout, *, limit: Positive = 1024, buffer: Positive = 256, unit: Unit = "words") -> Verdict:
    """A penalty for long completions: 0 up to `limit - buffer`, then falling to -1 at `limit`, and -1 beyond (DAPO).

    The soft overlong punishment of DAPO (2503.14476, eq. 13). `unit` is `words` or `characters`.

    >>> [verdict.score for verdict in overlong([Rollout("a " * n) for n in (6, 8, 11)], limit=10, buffer=4)]
    [0.0, -0.5, -1.0]
    """
    if buffer > limit:
        raise ValueError(f"buffer {buffer} is above limit {limit}")
    size = length(rollout.completion, unit)
    over = min(max((size - (limit - buffer)) / buffer, 0.0), 1.0)
    return _sized(-over if over else 0.0, size, unit)


def cosine_length(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    limit: Positive = 1024,
    floor: Share = 0.5,
    unit: Unit = "words",
    as_released: bool = False,
) -> list[Verdict]:
    """`reward` times a cosine that falls from 1 at length 0 to `floor` at `limit` and stays there (VLM-R1).

    Source: 2504.07615. `unit` is `words` or `characters`. Penalties are not scaled, or length would make them smaller.
    With `as_released=True` every answer counts as right, and the cosine rises again beyond the limit.

    >>> completions = [Rollout("x" * 512, "x" * 512), Rollout("no", "yes")]
    >>> from rewards.rules.exact_match import text_match
    >>> [round(verdict.score, 6) for verdict in cosine_length(completions, reward=text_match, unit="characters")]
    [0.75, 0.0]
    """
    verdicts = []
    for rollout, verdict in zip(rollouts, reward(rollouts), strict=True):
        size = length(rollout.completion, unit)
        share = size / limit if as_released else min(size / limit, 1.0)
        factor = floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2
        if as_released:
            verdicts.append(Verdict(factor, f"{size} {unit}"))
        else:
            verdicts.append(_scaled(verdict, factor, f"x {factor:.3f} for {size} {unit}"))
    return verdicts


def length_mask(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    low: Annotated[float, Field(ge=0)] = 0.5,
    high: Annotated[float, Field(gt=0)] = 2.0,
    unit: Unit = "words",
) -> list[Verdict]:
    """`reward` where the answer is `low` to `high` times as long as a gold text, else 0 (BalCapRL, 2605.07394).

    Both bounds are inside; `unit` is `words` or `characters`. BalCapRL masks its language reward alone. Without a gold
    text nothing is masked.

    >>> from rewards.rules.text import rouge_l
    >>> length_mask([Rollout("a b c d e", {"references": ["a b"]})], reward=rouge_l)[0]
    Verdict(score=0.0, why='5 words, masked: 2.50 times the gold text', kind='scored')
    """
    if low > high:
        raise ValueError(f"low {low} is above high {high}")
    verdicts = []
    for rollout, verdict in zip(rollouts, reward(rollouts), strict=True):
        size = length(answer_text(rollout.answered) or "", unit)
        ratios = [size / length(text, unit) for text in gold_texts(rollout)]
        if verdict.score is None or not ratios or any(low <= ratio <= high for ratio in ratios):
            verdicts.append(verdict)
        else:
            why = f"{size} {unit}, masked: {min(ratios):.2f} times the gold text"
            verdicts.append(Verdict(min(verdict.score, 0.0), why, verdict.kind))
    return verdicts


def length_penalty(
    rollouts: Sequence[Rollout],
    *,
    reward: Reward,
    max_penalty: Share = 0.5,
    tolerance: Annotated[float, Field(gt=0)] = 1.0,
    threshold: Share = 0.5,
    unit: Unit = "words",
) -> list[Verdict]:
    """A penalty for being longer than the mean right answer of the group (HARMO, 2510.05283; the formula is ours).

    -max_penalty * min(1, max(0, (L - L*) / L*) / tolerance), where L* is the mean length of the completions that
    `reward` scores `threshold` or more; 0 where there are none. The options are `max_penalty`, `tolerance`, `threshold`
    and `unit` (`words` or `characters`). The formula of the paper was not available.

    >>> group = [Rollout("x " * n, answer, group=1) for n, answer in ((100, "a"), (200, "a"), (300, ""), (400, ""))]
    >>> right = lambda rollouts: [Verdict(float(bool(rollout.answer))) for rollout in rollouts]
    >>> [round(verdict.score, 3) for verdict in length_penalty(group, reward=right)]
    [0.0, -0.167, -0.5, -0.5]
    """
    verdicts = reward(rollouts)
    sizes = [length(rollout.completion, unit) for rollout in rollouts]
    right: dict[str | int, list[int]] = {}
    for rollout, verdict, size in zip(rollouts, verdicts, sizes, strict=True):
        if rollout.group is not None and verdict.score is not None and verdict.score >= threshold:
            right.setdefault(rollout.group, []).append(size)
    penalties = []
    for rollout, verdict, size in zip(rollouts, verdicts, sizes, strict=True):
        if rollout.group is None:
            penalties.append(abstain("no group to compare lengths in"))
        elif verdict.score is None:
            penalties.append(failed(verdict.why) if verdict.kind == "failed" else abstain(verdict.why))
        else:
            of_group = right.get(rollout.group, [])
            usual = sum(of_group) / len(of_group) if of_group else 0.0
            over = min(max(size / usual - 1, 0.0) / tolerance, 1.0) if usual else 0.0
            penalties.append(Verdict(-max_penalty * over if over else 0.0, f"{size} {unit}, right ones {usual:.0f}"))
    return penalties


@functools.lru_cache(maxsize=4096)  # a verdict is frozen, and lengths are few
def _sized(score: float, size: int, unit: Unit) -> Verdict:
    return Verdict(score, f"{size} {unit}")


def _scaled(verdict: Verdict, factor: float, why: str) -> Verdict:
    if verdict.score is None or verdict.score < 0:
        return verdict
    return Verdict(verdict.score * factor, f"{verdict.why} {why}".strip(), verdict.kind)
