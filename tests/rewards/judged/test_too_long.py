"""A completion never decides that there is no verdict by its length: it scores 0, and costs nobody else a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rewards import Rollout, Verdict, get
from rewards.chat_client.http import _refusal
from tests.support.judge_server import Reply, quotes, serving, user_text, verdict

WORDS = [  # of OpenAI and vLLM, SGLang, llama.cpp, TGI
    "This model's maximum context length is 2048 tokens. However, you requested 9001 tokens",
    "The input (9001 tokens) is longer than the model's context length (2048 tokens).",
    '{"error":{"code":400,"message":"the request exceeds the available context size"}}',
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 9001 `inputs` tokens",
]
MOST = 6000  # characters that the scripted model reads


def reading(script: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], Reply | str]:
    """A server of a model that reads `MOST` characters."""
    return lambda body: Reply(status=400, body=WORDS[0].encode()) if len(user_text(body)) > MOST else script(body)


@pytest.mark.parametrize("words", WORDS)
def test_refusals_for_length_are_told_from_others(words: str) -> None:
    assert _refusal(400, "", words.encode()).too_long
    assert not _refusal(401, "", b"no such key").too_long
    assert not _refusal(400, "", b'{"error": "unknown field context"}').too_long


def judged(rollouts: list[Rollout], name: str = "judge", **options: Any) -> list[Verdict]:
    with serving(reading(lambda body: verdict(body, score=7, verdict="yes"))) as server:
        return get(name, judge=server.judge(breaker=2, pause=60), **options)(rollouts)


def test_a_completion_that_is_too_long_scores_0_and_closes_no_way_for_others() -> None:
    long = [Rollout(f"{'so ' * 3000}{number}", prompt="Why?") for number in range(9)]  # far more than the breaker takes
    *first, last = judged([*long, Rollout("so", prompt="Why?")])
    assert [(one.score, one.kind) for one in first] == [(0.0, "unparsed")] * 9
    assert (last.score, last.kind) == (0.7, "scored")


def test_a_question_that_is_too_long_is_no_fault_of_the_completion() -> None:
    (one,) = judged([Rollout("so", prompt="Why? " * 2000)])
    assert (one.score, one.kind) == (None, "failed")
    assert "maximum context length" in one.why


def ranking(body: dict[str, Any]) -> str:
    names = list(json.loads(quotes(body)[-1]))
    return verdict(body, **{"scores": dict.fromkeys(names, 4), "best-to-worst": names})


def test_the_longest_response_of_a_group_does_not_cost_the_others_their_verdict() -> None:
    def scores(*completions: str, prompt: str = "Why?") -> list[tuple[float | None, str]]:
        rollouts = [Rollout(completion, prompt=prompt, group=1) for completion in completions]
        with serving(reading(ranking)) as server:
            verdicts = get("principle_ranking", judge=server.judge(), principle="true")(rollouts)
        return [(one.score, one.kind) for one in verdicts]

    long = "so " * 3000
    assert scores("a", long, "b") == [(0.75, "scored"), (0.0, "unparsed"), (0.75, "scored")]
    assert scores(long, f"{long} there") == [(0.0, "unparsed")] * 2
    assert scores("a", "b", prompt=long) == [(None, "failed")] * 2


def test_a_caption_of_endless_claims_scores_0_and_a_judge_that_rambles_does_not_count() -> None:
    def verdict_on(caption: str, picture: Any) -> Verdict:
        claims = [f"thing {number}" for number in range(300)]
        with serving(lambda body: verdict(body, claims=claims)) as server:
            return get("caption_precision", judge=server.judge())([Rollout(caption, media=[picture])])[0]

    from rewards import Media

    picture = Media("image", "a.png")
    many = verdict_on(", ".join(f"thing {number}" for number in range(300)), picture)
    assert (many.score, many.kind) == (0.0, "unparsed")
    assert verdict_on("A dog.", picture).kind == "failed"
