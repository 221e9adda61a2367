"""A reward asked about each step of an answer: its turns, or its paragraphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from rewards import Rollout, Verdict
from rewards.base import abstain
from rewards.composed.steps import each_step


def rated(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """The number at the end of a step, out of 5; without one no verdict."""
    lasts = [rollout.completion.split()[-1] for rollout in rollouts]
    return [Verdict(int(last) / 5) if last.isdigit() else abstain(f"{last} is no number") for last in lasts]


def verdict(rollout: Rollout, score: Literal["mean", "min", "last"] = "mean") -> Verdict:
    return each_step([rollout], reward=rated, score=score)[0]


def test_answers_are_picked_as_vilbench_picks_them() -> None:
    answers = [Rollout("a 5\n\nb 4\n\nc 1"), Rollout("a 4\n\nb 3\n\nc 3")]
    for score, values in (("mean", [2 / 3, 2 / 3]), ("min", [0.2, 0.6]), ("last", [0.2, 0.6])):
        verdicts = each_step(answers, reward=rated, score=score)  # pyright: ignore[reportArgumentType]
        assert [one.score for one in verdicts] == pytest.approx(values)


def test_turns_are_steps_at_their_places_in_the_text() -> None:
    said = ["<think>two\n\nparts</think> 5", "", "no 0"]
    turns = [{"said": text, "calls": []} for text in said]
    rollout = Rollout("\n".join(said), turns=turns)
    found = verdict(rollout)
    assert [(rollout.completion[span.start : span.stop], span.score) for span in found.spans] == [
        (said[0], 1.0),
        (said[2], 0.0),
    ]


def test_the_reward_sees_a_step_and_what_came_before() -> None:
    seen: list[Rollout] = []

    def keeping(rollouts: Sequence[Rollout]) -> list[Verdict]:
        seen.extend(rollouts)
        return [Verdict(1.0)] * len(rollouts)

    each_step([Rollout("one\n \ntwo</think>\n\nthree", opened="<think>", meta={"a": 1})], reward=keeping)
    assert [(step.completion, step.opened, step.meta) for step in seen] == [
        ("one", "", {"a": 1, "before": ""}),
        ("two", "", {"a": 1, "before": "one"}),
        ("three", "", {"a": 1, "before": "one\n \ntwo"}),
    ]


def test_steps_without_a_verdict_are_left_out() -> None:
    found = verdict(Rollout("a 5\n\nb\n\nc 0"))
    assert (found.score, len(found.spans), found.why) == (0.5, 2, "2 of 3 steps have a score")
    assert verdict(Rollout("a\n\nb")).kind == "abstained"
    assert verdict(Rollout("\n \n")).kind == "unparsed"


@pytest.mark.parametrize("text", ["a 5", "\n\n  a 5 \n\n\n\n b\n c 1\t\n", "<think>\n\na 5</think>"])
def test_no_span_is_blank(text: str) -> None:
    rollout: Any = Rollout(text)
    assert all(text[span.start : span.stop].strip() for span in verdict(rollout).spans)
    assert verdict(rollout).spans
