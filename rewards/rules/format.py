"""Rewards for the format of a completion, whatever its content."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from rewards.base import Rollout, Verdict, per_rollout
from rewards.parse.extract import answer_text
from rewards.parse.objects import POINT_KEYS
from rewards.parse.regions import BOX_KEYS

WELL_FORMED = Verdict(1.0)

_VISIBLE = re.compile(  # content: characters that show nothing do not count, nor do fillers and control characters
    r"[^\s\x00-\x1f\x7f-\x9f\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


@per_rollout
def think_format(rollout: Rollout) -> Verdict:
    """1 if the completion is `<think>...</think><answer>...</answer>` and nothing else, each with content.

    It does not look at the content of the answer. As in DeepSeek-R1 (2501.12948).

    >>> [v.score for v in think_format([Rollout("<think>7 legs?</think> <answer>no</answer>"), Rollout("no")])]
    [1.0, 0.0]
    """
    text = rollout.answered
    counts = {tag: text.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")}
    if wrong := [f"{count} x {tag}" for tag, count in counts.items() if count != 1]:
        return Verdict(0.0, ", ".join(wrong))
    before, _, rest = text.partition("<think>")
    thought, _, rest = rest.partition("</think>")
    between, _, rest = rest.partition("<answer>")
    answer, closing, after = rest.partition("</answer>")
    if not closing or (before + between + after).strip():
        return Verdict(0.0, "tags out of order, or text outside them")
    return (
        WELL_FORMED
        if _VISIBLE.search(thought) and _VISIBLE.search(answer)
        else Verdict(0.0, "nothing between the tags")
    )


@per_rollout
def tag_format(
    rollout: Rollout, *, tags: Annotated[tuple[str, ...], Field(min_length=1)] = ("think", "answer")
) -> Verdict:
    """The share of `tags` of which the completion has exactly one pair with content, in this order and not nested.

    Text outside the pairs is allowed; `think_format` is the strict form.

    >>> tag_format([Rollout("7 legs? <answer>no</answer>"), Rollout("<think>7 legs?</think> <answer>no</answer>")])
    [Verdict(score=0.5, why='<think>: 0 opened, 0 closed', kind='scored'), Verdict(score=1.0, why='', kind='scored')]
    """
    faults, position = [], 0
    for tag in tags:
        fault, end = _pair_fault(rollout.answered, tag, position)
        if fault:
            faults.append(f"<{tag}>: {fault}")
        else:
            position = end
    return Verdict(1 - len(faults) / len(tags), "; ".join(faults)) if faults else WELL_FORMED


@per_rollout
def json_format(rollout: Rollout, *, keys: tuple[str, ...] = (), as_released: bool = False) -> Verdict:
    """The share of well-formed objects, if the answer is a JSON list or object and nothing else; 0 otherwise.

    The JSON may be in one fence. An object is well formed if it has all `keys`, with four numbers under a key of boxes
    such as `bbox_2d` and two under a key of points (VisionReasoner scores the share of objects, 2510.10606). Without
    `keys` any JSON is well formed. `as_released=True` repeats the code of Vision-R1 (2503.18013): any JSON scores 1
    unless an object with `bbox_2d` and `label` does not have a list of four numbers there; where the gold has no
    `boxes` the score is 1 minus that.

    >>> said = [Rollout('[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [1]}]'), Rollout("a cat")]
    >>> [verdict.score for verdict in json_format(said, keys=("bbox_2d",))], json_format(said)[0].score
    ([0.5, 0.0], 1.0)
    """
    value = _json(answer_text(rollout.answered) or "")
    items = value if isinstance(value, list) else [value]
    if as_released:
        named = [item for item in items if isinstance(item, Mapping) and "bbox_2d" in item and "label" in item]
        formed = value is not None and all(
            isinstance(item["bbox_2d"], list) and len(item["bbox_2d"]) == 4 for item in named
        )
        nothing = isinstance(rollout.answer, Mapping) and rollout.answer.get("boxes") == []
        return Verdict(float(formed != nothing), "JSON" if formed else "not JSON of boxes")
    if value is None:
        return Verdict(0.0, "the answer is not a JSON list or object alone")
    if not keys or not items:
        return WELL_FORMED
    good = sum(isinstance(item, Mapping) and all(_has(item, key) for key in keys) for item in items)
    return Verdict(good / len(items), f"{good} of {len(items)} objects well formed")


def _json(text: str) -> Any:
    """The JSON list or object that a text is, in a fence or not, every number a float; None if it is something else."""
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        value = json.loads(text, parse_int=float, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _has(item: Mapping[str, Any], key: str) -> bool:
    """Whether an object has a key, with as many finite numbers as one of boxes or points wants."""
    wanted = 4 if key in BOX_KEYS else 2 if key in POINT_KEYS else None
    value = item.get(key)
    if wanted is None:
        return key in item
    return (
        isinstance(value, list)
        and len(value) == wanted
        and all(isinstance(side, float) and math.isfinite(side) for side in value)
    )


def _pair_fault(text: str, tag: str, position: int) -> tuple[str, int]:
    """The fault of the only pair of `tag`, which must open at or after `position`; and where the pair ends."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    opened, closed = text.count(opening), text.count(closing)
    if opened != 1 or closed != 1:
        return f"{opened} opened, {closed} closed", position
    start, end = text.index(opening), text.index(closing)
    if not position <= start < end:
        return "out of order", position
    return "" if _VISIBLE.search(text, start + len(opening), end) else "empty", end + len(closing)
