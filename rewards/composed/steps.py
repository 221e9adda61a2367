"""A process reward: a reward asked about each step of an answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from rewards.base import Reward, Rollout, Span, Verdict, unparsed

_TAGS = re.compile("</?think>")
_ONE_SCORE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "min": min,
    "last": lambda scores: scores[-1],
}


def each_step(
    rollouts: Sequence[Rollout], *, reward: Reward, score: Literal["mean", "min", "last"] = "mean"
) -> list[Verdict]:
    """The `reward` of each step of an answer; `advantages.tokens.steps` gives each step its own advantage.

    Steps are the turns of a rollout with tools, else the paragraphs of the answer. The reward sees a step as a
    completion without the tags of thoughts, and what came before it as `meta["before"]`. The score is the `mean`, the
    `min` or the `last` of the steps' (ViLBench, 2503.20271). Steps without a verdict are left out.

    >>> from rewards.rules.exact_match import yesno_match
    >>> answer = Rollout("<think>yes, it is\\n\\nno, it is not\\n\\nno</think>", "no")
    >>> verdict = each_step([answer], reward=yesno_match)[0]
    >>> round(verdict.score, 4), [(span.start, span.stop, span.score) for span in verdict.spans]
    (0.6667, [(0, 17, 0.0), (19, 32, 1.0), (34, 44, 1.0)])
    """
    steps = [_steps(rollout) for rollout in rollouts]
    asked = [step for of_rollout in steps for _, step in of_rollout]
    verdicts = iter(reward(asked) if asked else [])
    return [_verdict([(place, next(verdicts)) for place, _ in of_rollout], score) for of_rollout in steps]


def _steps(rollout: Rollout) -> list[tuple[tuple[int, int], Rollout]]:
    """(first and last place in the completion, what the reward is asked about) of each step that is not blank."""
    text, steps = rollout.completion, []
    for start, stop, turns in _turns(rollout) if rollout.turns else _paragraphs(text):
        said, before = _TAGS.sub("", text[start:stop]).strip(), _TAGS.sub("", rollout.opened + text[:start]).strip()
        if said:
            meta = {**rollout.meta, "before": before}
            steps.append(((start, stop), replace(rollout, completion=said, opened="", meta=meta, turns=turns)))
    return steps


def _turns(rollout: Rollout) -> list[tuple[int, int, Sequence[Mapping[str, Any]]]]:
    places, start = [], 0
    for turn in rollout.turns:
        places.append((start, start + len(turn["said"]), (turn,)))
        start += len(turn["said"]) + 1
    return places


def _paragraphs(text: str) -> list[tuple[int, int, Sequence[Mapping[str, Any]]]]:
    lines = text.split("\n")
    begins = itertools.accumulate((len(line) + 1 for line in lines), initial=0)
    blocks = itertools.groupby(zip(begins, lines, strict=False), key=lambda place: bool(place[1].strip()))
    filled = [list(block) for is_filled, block in blocks if is_filled]
    return [(block[0][0], block[-1][0] + len(block[-1][1].rstrip()), ()) for block in filled]


def _verdict(steps: Sequence[tuple[tuple[int, int], Verdict]], score: str) -> Verdict:
    if not steps:
        return unparsed("no step to score")
    scored = [(start, stop, verdict.score) for (start, stop), verdict in steps if verdict.score is not None]
    if not scored:
        return replace(steps[0][1], spans=())
    one, spans = _ONE_SCORE[score]([value for _, _, value in scored]), tuple(Span(*step) for step in scored)
    return Verdict(one, f"{len(scored)} of {len(steps)} steps have a score", spans=spans)
