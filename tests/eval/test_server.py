"""Answers from a server: the requests, and every way in which a server can fail. A failure is never an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_engine.schema import Sample, user_prompt
from eval.answer.server import ServerGenerator, ServerSpec
from eval.generation import Draw, Sampling
from eval.records import read_records
from eval.run import run
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from tests.eval.test_backends import chat, config, served
from tests.support.judge_server import FAILURES, Reply, in_turn, serving

EMPTY = [
    reply for reply, _ in FAILURES if reply.text == " " or b"null" in (reply.body or b"")
]  # an answer all the same


def asked(url: str, count: int = 1, **settings: Any) -> list[str]:
    """The answers to `count` questions without media, asked as one batch."""
    spec = ServerSpec.model_validate({"base_url": url, "backoff": 0.01, "deadline": 5.0, **settings})
    generator = ServerGenerator(spec, "served", budget=VisionBudget(), sampling=Sampling())
    samples = [Sample(f"s{i}", "test", "text", user_prompt(f"question {i}"), {"text": ["7"]}) for i in range(count)]
    return [answer.response for answer in generator([Draw(sample) for sample in samples])]


def test_a_server_answers_every_kind_of_prompt(dataset: Path, tmp_path: Path) -> None:
    with serving(lambda body: chat("<answer>7</answer>")) as server:
        records = run(config(dataset, tmp_path / "out", **served(server.url, concurrency=2)))
    assert {record.response for record in records} == {"<answer>7</answer>"}
    assert {record.tokens for record in records} == {5}
    assert server.most <= 2
    images = sorted(sum(p["type"] == "image_url" for p in body["messages"][0]["content"]) for body in server.bodies)
    assert images[:3] == [0, 1, 2]
    assert images[-1] > 2  # a video is its frames
    assert all(body["temperature"] == 0 and "seed" not in body for body in server.bodies)


def test_odd_messages_of_a_server_are_read_or_refused(dataset: Path, tmp_path: Path) -> None:
    odd: list[Any] = [
        [{"type": "text", "text": "<answer>"}, {"type": "refusal"}, {"type": "text", "text": "7</answer>"}]
    ]
    with serving(lambda body: chat(odd[0])) as server:
        assert {r.response for r in run(config(dataset, tmp_path / "a", **served(server.url)))} == {
            "<answer>7</answer>"
        }
    with serving(lambda body: chat("half \ud83d")) as server:  # of a pair; UTF-8 has no such thing
        assert {r.response for r in run(config(dataset, tmp_path / "b", **served(server.url)))} == {"half ?"}
    reply = {"choices": [{"message": {"content": "7"}}], "usage": {"completion_tokens": None}}
    with serving(lambda body: Reply(body=json.dumps(reply).encode())) as server:
        assert len(run(config(dataset, tmp_path / "c", **served(server.url)))) == 5
    with serving(lambda body: chat(7)) as server, pytest.raises(InputError, match="not a chat completion"):  # pyright: ignore[reportArgumentType]
        run(config(dataset, tmp_path / "d", **served(server.url)))


def test_draws_of_a_server_have_seeds_of_their_own(dataset: Path, tmp_path: Path) -> None:
    sampling = {"do_sample": True, "samples": 2}
    with serving(lambda body: chat(str(body["seed"]))) as server:
        records = run(config(dataset, tmp_path / "out", sampling=sampling, **served(server.url)))
    assert len({record.response for record in records}) == len(records) == 10


def test_a_server_that_resizes_must_say_how(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"space resized needs server\.geometry"):
        config(dataset, tmp_path, space="resized", **served("http://127.0.0.1:1/v1"))
    geometry = {"patch": 14, "merge": 2}
    with serving(lambda body: chat("7")) as server:
        records = run(
            config(dataset, tmp_path / "out", **{**served(server.url, geometry=geometry), "space": "resized"})
        )
    assert all(side % 28 == 0 for record in records for size in record.seen_size for side in size)


@pytest.mark.parametrize(("reply", "cause"), [(r, c) for r, c in FAILURES if r not in EMPTY])
def test_a_failing_request_stops_the_run_with_its_cause(reply: Reply, cause: str) -> None:
    settings = {"deadline": 0.5 if cause == "deadline" else 5.0, "max_response": 20_000, "retries": 1}
    begun = time.monotonic()
    with serving(lambda body: reply) as server, pytest.raises(InputError, match=rf"no answer to sample s0 \({cause}"):
        asked(server.url, **settings)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("reply", EMPTY)
def test_a_message_without_text_is_an_empty_answer(reply: Reply) -> None:
    with serving(lambda body: reply) as server:
        assert asked(server.url)[0].strip() == ""


def test_records_of_answers_before_a_failure_stay_and_the_run_resumes(dataset: Path, tmp_path: Path) -> None:
    replies: Iterator[Reply] = iter([chat("7"), chat("7"), Reply(status=404)])
    with (
        serving(lambda body: next(replies)) as server,
        pytest.raises(InputError, match=r"served at .* gave no answer .*status 404.* again to resume"),
    ):
        run(config(dataset, tmp_path / "a", batch_size=1, **served(server.url)))
    assert [record.response for record in read_records(tmp_path / "a")] == ["7", "7"]
    with serving(lambda body: chat("8")) as server:
        records = run(config(dataset, tmp_path / "a", batch_size=1, **served(server.url)))
        assert sorted(record.response for record in records) == list("77888")
        assert len(server.bodies) == 3


def test_a_busy_server_is_asked_again(dataset: Path, tmp_path: Path) -> None:
    replies = iter([Reply(status=503), Reply(status=429), Reply(cut=0)])
    with serving(lambda body: next(replies, chat("yes"))) as server:
        assert {r.response for r in run(config(dataset, tmp_path / "a", **served(server.url)))} == {"yes"}
    assert len(server.bodies) == 8


def test_retry_after_is_obeyed() -> None:
    with serving(in_turn(Reply(status=429, headers={"retry-after": "0.9"}), chat("now"))) as server:
        assert asked(server.url) == ["now"]
        assert server.arrivals[1] - server.arrivals[0] >= 0.9


def test_one_deadline_holds_for_all_retries() -> None:
    begun = time.monotonic()
    with (
        serving(lambda body: Reply(status=500, delay=0.15)) as server,
        pytest.raises(InputError, match=r"deadline: no reply within 0\.4 s"),
    ):
        asked(server.url, deadline=0.4, retries=100)
    assert 0.35 < time.monotonic() - begun < 2


def test_a_whole_batch_that_is_throttled_once_is_asked_again() -> None:
    replies = iter([Reply(status=429)] * 16)
    with serving(lambda body: next(replies, chat("yes"))) as server:
        assert asked(server.url, 16) == ["yes"] * 16
    assert len(server.bodies) == 32


def test_the_breaker_leaves_a_broken_server_alone() -> None:
    with serving(lambda body: Reply(status=500)) as server, pytest.raises(InputError, match="circuit_open"):
        asked(server.url, 40, breaker=5, concurrency=1, retries=9)
    assert len(server.bodies) == 5


def test_the_rate_holds_in_an_evaluation_too() -> None:
    with serving(lambda body: chat("yes")) as server:
        begun = time.monotonic()
        asked(server.url, 20, rate=50, burst=3)
        assert time.monotonic() - begun >= (20 - 3) / 50


def test_the_key_is_sent_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: chat("7")) as server:
        with pytest.raises(InputError, match="environment variable NO_SUCH_KEY holds no key"):
            asked(server.url, api_key_env="NO_SUCH_KEY")
        monkeypatch.setenv("EVAL_KEY", "sesame")
        asked(server.url, api_key_env="EVAL_KEY")
        assert b"authorization: Bearer sesame" in server.headers[0]


@pytest.mark.parametrize("url", ["http://h:99999/v1", "http://1.2.3.999/v1", "ftp://h/v1"])
def test_a_wrong_address_is_an_error_before_the_run(dataset: Path, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match=r"server\.base_url"):
        config(dataset, tmp_path, **served(url))
