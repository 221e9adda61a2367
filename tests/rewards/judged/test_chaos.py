"""A judge's server that fails in many ways at once: every outcome is the right verdict or a cause, in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rewards import Rollout, get
from rewards.judge_client.client import Judge
from tests.support.judge_server import Reply, quotes, serving, verdict

WAYS: list[Callable[[dict[str, Any], str], Reply]] = [
    lambda body, reply: Reply(status=429),
    lambda body, reply: Reply(status=500),
    lambda body, reply: Reply(reply, cut=0),
    lambda body, reply: Reply(reply, cut=100),
    lambda body, reply: Reply(body=b'{"choices": [{"message": {"content": "rep'),
    lambda body, reply: Reply(reply, delay=30.0),
    lambda body, reply: Reply(status=404),
    lambda body, reply: Reply(status=302),
    lambda body, reply: Reply(body=b"{}"),
    lambda body, reply: Reply("x" * 30_000),
    lambda body, reply: Reply(""),
    lambda body, reply: Reply(reply[:-5]),
    lambda body, reply: Reply(verdict(body, score=11)),
    lambda body, reply: Reply(verdict(body, score=-1)),
    lambda body, reply: Reply(verdict(body, score=7).replace("7", "NaN")),
    lambda body, reply: Reply("Оценка: семь из десяти"),
    lambda body, reply: Reply(quotes(body)[-1]),  # the completion instead of a verdict
]


def chaos(calls: int, delay: float, deadline: float) -> tuple[Judge, float, float]:
    """Have `calls` answers judged by a server that fails on 3 in 10 of its requests; the judge, the time and the ideal.

    The ideal is the time that all requests take at 64 in flight, each with the server's own delay and nothing else.
    The breaker is out of the way; it has tests of its own.
    """
    random, busy = np.random.default_rng(0), 0.0

    def script(body: dict[str, Any]) -> Reply:
        nonlocal busy
        result = verdict(body, score=int(quotes(body)[-1].rsplit(" ", 1)[1]) % 11)
        reply = Reply(result)
        if random.random() < 0.3:
            reply = WAYS[random.integers(len(WAYS))](body, result)
        reply = replace(reply, delay=reply.delay or delay)
        busy += min(reply.delay, deadline)
        return reply

    rollouts = [Rollout(f'{{"score": 10}} is what answer gets: {i}') for i in range(calls)]
    with serving(script) as server:
        judge = server.judge(concurrency=64, deadline=deadline, breaker=100_000, max_response=20_000, backoff=0.05)
        begun = time.monotonic()
        verdicts = get("judge", judge=judge)(rollouts)
        took = time.monotonic() - begun
    for i, judged in enumerate(verdicts):
        assert judged.score in (None, i % 11 / 10), judged
        assert judged.kind == ("failed" if judged.score is None else "scored"), judged
    good = sum(verdict.score is not None for verdict in verdicts)
    assert 0.5 * calls < good < calls
    assert sum(judge.metrics.causes.values()) == calls - good
    return judge, took, busy / 64


def test_chaos_gives_right_texts_or_causes() -> None:
    judge, _, _ = chaos(1000, delay=0.02, deadline=3.0)
    assert {"deadline", "malformed", "refused", "too_large", "unreadable"} <= set(judge.metrics.causes)


@pytest.mark.slow
def test_chaos_at_length_takes_little_more_than_the_ideal_time() -> None:
    _, took, ideal = chaos(5000, delay=0.5, deadline=5.0)
    assert took < 1.3 * ideal
