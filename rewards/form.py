"""Rewards for the form of a completion, whatever it says."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from rewards.base import Rollout, Verdict, per_rollout

_THINK_ANSWER = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)

WELL_FORMED = Verdict(1.0)


@per_rollout
def think_format(rollout: Rollout) -> Verdict:
    """1 if the completion is `<think>...</think><answer>...</answer>`, one of each with content, and nothing else.

    >>> [v.score for v in think_format([Rollout("<think>7 legs?</think> <answer>no</answer>"), Rollout("no")])]
    [1.0, 0.0]
    """
    counts = {tag: rollout.completion.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")}
    if wrong := [f"{count} x {tag}" for tag, count in counts.items() if count != 1]:
        return Verdict(0.0, ", ".join(wrong))
    parts = _THINK_ANSWER.fullmatch(rollout.completion)
    if not parts:
        return Verdict(0.0, "tags out of order, or text outside them")
    return WELL_FORMED if parts[1].strip() and parts[2].strip() else Verdict(0.0, "nothing between the tags")


@per_rollout
def tag_format(
    rollout: Rollout, *, tags: Annotated[tuple[str, ...], Field(min_length=1)] = ("think", "answer")
) -> Verdict:
    """The share of `tags` of which the completion has exactly one pair with content, in this order and not nested.

    Text outside the pairs is free; `think_format` is the strict form.

    >>> tag_format([Rollout("7 legs? <answer>no</answer>")])[0]
    Verdict(score=0.5, why='<think>: 0 opened, 0 closed', kind='scored')
    """
    faults, position = [], 0
    for tag in tags:
        fault, end = _pair_fault(rollout.completion, tag, position)
        if fault:
            faults.append(f"<{tag}>: {fault}")
        else:
            position = end
    return Verdict(1 - len(faults) / len(tags), "; ".join(faults)) if faults else WELL_FORMED


def _pair_fault(text: str, tag: str, position: int) -> tuple[str, int]:
    """What is wrong with the only pair of `tag`, which must open at or after `position`; and where the pair ends."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    opened, closed = text.count(opening), text.count(closing)
    if opened != 1 or closed != 1:
        return f"{opened} opened, {closed} closed", position
    start, end = text.index(opening), text.index(closing)
    if not position <= start < end:
        return "out of order", position
    return "" if text[start + len(opening) : end].strip() else "empty", end + len(closing)
