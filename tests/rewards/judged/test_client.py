"""A judge's server may fail in every way: the outcome is the right text or a cause, in time."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mmrl.core.config import InputError
from mmrl.core.media.item import Media, MediaKind
from rewards.chat_client.event_loop import gathered
from rewards.chat_client.limits import Breaker
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import Shown, data_uris
from rewards.judge_client.judge_spec import JudgeSpec
from tests.support.clips import write_clip
from tests.support.judge_server import FAILURES, Reply, Server, ask, echo, in_turn, pictures, serving


def test_every_question_gets_its_own_answer_within_the_limit_of_concurrency() -> None:
    with serving(lambda body: Reply(echo(body), delay=0.01)) as server:
        outcomes = server.judge(concurrency=8).ask_all([ask(f"question {i}") for i in range(40)])
    assert [outcome.text for outcome in outcomes] == [f"reply to question {i}" for i in range(40)]
    assert server.most == 8


@pytest.mark.parametrize(("reply", "cause"), FAILURES)
def test_a_failure_has_a_cause_and_no_text(reply: Reply, cause: str) -> None:
    with serving(lambda body: reply) as server:
        judge = server.judge(deadline=0.5 if cause == "deadline" else 5.0, max_response=20_000)
        begun = time.monotonic()
        outcome = judge.ask_all([ask()])[0]
        took = time.monotonic() - begun
    assert (outcome.text, outcome.cause) == (None, cause)
    assert outcome.detail
    assert took < 5
    assert judge.metrics.summary()["failed"] == {cause: 1}


def test_a_server_that_is_down_is_a_connection_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        judge = Server(f"http://127.0.0.1:{taken.getsockname()[1]}/v1").judge()
        assert judge.ask_all([ask()])[0].cause == "connection"


@pytest.mark.parametrize("first", [Reply(status=429), Reply(status=502), Reply(cut=0), Reply("half", cut=120)])
def test_what_may_pass_is_tried_again(first: Reply) -> None:
    with serving(in_turn(first, first, "at last")) as server:
        assert server.judge(retries=2).ask_all([ask()])[0].text == "at last"
        assert len(server.bodies) == 3


@pytest.mark.parametrize("first", [Reply(status=400), Reply(status=401), Reply(body=b"{}"), Reply(status=307)])
def test_what_will_not_pass_is_not_tried_again(first: Reply) -> None:
    with serving(in_turn(first, "too late")) as server:
        assert server.judge(retries=2).ask_all([ask()])[0].text is None
        assert len(server.bodies) == 1


@pytest.mark.parametrize("form", ["1", "0.9", "date"])
def test_a_server_that_says_when_to_come_back_is_obeyed(form: str) -> None:
    when = formatdate(time.time() + 2, usegmt=True) if form == "date" else form  # a date has no fractions
    with serving(in_turn(Reply(status=429, headers={"retry-after": when}), "now")) as server:
        assert server.judge().ask_all([ask()])[0].text == "now"
        assert server.arrivals[1] - server.arrivals[0] >= 0.9


def test_the_deadline_holds_for_all_retries_together() -> None:
    with serving(lambda body: Reply(status=500, delay=0.15)) as server:
        begun = time.monotonic()
        outcome = server.judge(deadline=0.4, retries=100).ask_all([ask()])[0]
        assert outcome.cause == "deadline"
        assert 0.35 < time.monotonic() - begun < 2


def test_waiting_for_a_place_does_not_count_against_the_deadline() -> None:
    with serving(lambda body: Reply("ok", delay=0.1)) as server:
        outcomes = server.judge(concurrency=1, deadline=0.9).ask_all([ask(f"{i}") for i in range(10)])
    assert [outcome.text for outcome in outcomes] == ["ok"] * 10


def test_no_more_requests_a_second_than_the_rate() -> None:
    with serving(echo) as server:
        begun = time.monotonic()
        server.judge(rate=50, burst=3).ask_all([ask(f"{i}") for i in range(20)])
        assert time.monotonic() - begun >= (20 - 3) / 50


def test_the_breaker_opens_after_failures_in_a_row_and_closes_by_a_probe() -> None:
    breaker = Breaker(3, pause=10)
    for ok in (False, False, True, False, False, False):
        assert breaker.admits(0)
        breaker.report(ok, 0)
    assert not breaker.admits(9)
    assert [breaker.admits(10), breaker.admits(10), breaker.admits(11)] == [True, False, False]
    breaker.report(False, 12)
    assert [breaker.admits(21), breaker.admits(22)] == [False, True]
    breaker.report(True, 23)
    assert breaker.admits(23)
    assert breaker.openings == 1


def test_a_broken_server_is_left_alone_and_found_again_once_it_works() -> None:
    healthy = False

    def script(body: dict[str, Any]) -> Reply | str:
        return "well" if healthy else Reply(status=500)

    with serving(script) as server:
        judge = server.judge(breaker=5, pause=0.3, retries=0, concurrency=1)
        causes = [outcome.cause for outcome in judge.ask_all([ask(f"{i}") for i in range(50)])]
        assert causes == ["server"] * 5 + ["circuit_open"] * 45
        assert len(server.bodies) == 5
        healthy = True
        time.sleep(0.4)
        assert {outcome.text for outcome in judge.ask_all([ask(f"{i}") for i in range(5)])} == {"well"}


def test_the_same_question_at_the_same_time_is_sent_once() -> None:
    with serving(lambda body: Reply("same", delay=0.1)) as server:
        judge = server.judge()
        assert {outcome.text for outcome in judge.ask_all([ask()] * 20)} == {"same"}
        assert (len(server.bodies), judge.metrics.shared) == (1, 19)


def test_within_a_batch_a_question_is_sent_once_even_if_its_reply_came_before_it_is_asked_again() -> None:
    """A rollout whose picture takes long to read must be judged by the checklist that the others got."""

    async def asked(judge: Judge, *texts: str) -> list[str]:
        return [await judge.read(ask(text), str) for text in texts]

    def script(body: dict[str, Any]) -> Reply:
        return Reply(f"reply {len(server.bodies)}", delay=0.3 if "slow" in echo(body) else 0)

    with serving(script) as server:
        judge = server.judge()
        first, (_, late) = gathered([asked(judge, "list"), asked(judge, "slow", "list")])
        assert first == [late]
        assert len(server.bodies) == 2
        assert gathered([asked(judge, "list")]) == [["reply 3"]]  # in the next batch it is asked again


def test_who_waits_for_the_reply_to_the_same_question_gets_its_failure_too() -> None:
    with serving(lambda body: Reply(status=404, delay=0.2)) as server:
        judge = server.judge()
        outcomes = judge.ask_all([ask("one"), ask("one"), ask("one")])
    assert [outcome.cause for outcome in outcomes] == ["refused"] * 3
    assert (judge.metrics.requests, judge.metrics.shared) == (1, 2)


def test_a_picture_takes_the_size_that_another_has_now(tmp_path: Path) -> None:
    source, edited = str(tmp_path / "source.png"), str(tmp_path / "edited.png")
    Image.new("RGB", (64, 64)).save(edited)
    item = Shown(Media("image", edited), size_of=Media("image", source))
    sent = []
    for width in (20, 200):
        Image.new("RGB", (width, 40)).save(source)
        sent.append(data_uris(item, 1_000_000, 1))
    assert sent[0] != sent[1]


def test_pictures_go_scaled_down_and_videos_as_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    write_clip(tmp_path / "b.mp4", 50)
    media = (
        Shown(Media("image", str(tmp_path / "a.png")), "Image 1:"),
        Shown(Media("video", str(tmp_path / "b.mp4")), "Video 2:"),
    )
    with serving(lambda body: "seen") as server:
        assert server.judge(max_pixels=1000, max_frames=4).ask_all([ask(shown=media)])[0].text == "seen"
        sent = pictures(server.bodies[0])
    assert len(sent) == 5
    assert len(set(sent)) == 5
    assert all(uri.startswith("data:image/jpeg;base64,") and len(uri) < 4000 for uri in sent)


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_media_that_cannot_be_read_are_a_failure_of_their_own(
    tmp_path: Path, kind: MediaKind, content: bytes | None
) -> None:
    path = tmp_path / "media"
    if content is not None:
        path.write_bytes(content)
    with serving(echo) as server:
        outcomes = server.judge().ask_all([ask(shown=(Shown(Media(kind, str(path)), "1:"),)), ask("b")])
        assert [outcome.cause for outcome in outcomes] == ["media", None]
        assert len(server.bodies) == 1


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as server:
        with pytest.raises(InputError, match="environment variable NO_SUCH_KEY holds no key"):
            server.judge(api_key_env="NO_SUCH_KEY")
        monkeypatch.setenv("JUDGE_KEY", "sesame")
        judge = server.judge(api_key_env="JUDGE_KEY")
        judge.ask_all([ask()])
        assert b"authorization: Bearer sesame" in server.headers[0]
        assert "sesame" not in repr(judge) + repr(vars(judge.spec))
        monkeypatch.setenv("JUDGE_KEY", "ses\x01ame")
        with pytest.raises(InputError, match="environment variable JUDGE_KEY holds no key"):
            server.judge(api_key_env="JUDGE_KEY")
        monkeypatch.setenv("JUDGE_KEY", "sésame")
        assert server.judge(api_key_env="JUDGE_KEY").ask_all([ask()])[0].text == "reply to hello"


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "file:///etc/passwd"},
        {"base_url": "http://1.2.3.999/v1"},
        {"base_url": "http://h:99999/v1"},
        {"base_url": "http://u:p@h/v1"},
        {"concurrency": 0},
        {"deadline": -1},
        {"backend": "magic"},
        {"x": 1},
    ],
)
def test_wrong_settings_are_an_error_at_the_door(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JudgeSpec.model_validate({"base_url": "http://127.0.0.1:1/v1", "model": "m", **settings})


OK = b'{"choices": [{"message": {"content": "fine"}}]}'


def chunked(text: bytes, size: int) -> bytes:
    """A response in chunks of `size` bytes."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\ntrailer: yes\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=chunked(OK, 7)),
        Reply(raw=chunked(OK, 1000)),
        Reply(raw=b"HTTP/1.0 200 OK\r\n\r\n" + OK, cut=1000),
        Reply(raw=b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(OK), OK), cut=1000),
        Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(OK), OK), cut=1000),
    ],
)
def test_a_reply_is_read_however_its_end_is_told_and_whether_or_not_the_connection_lasts(reply: Reply) -> None:
    with serving(lambda body: reply) as server:
        judge = server.judge(concurrency=1, retries=0)
        assert [judge.ask_all([ask(f"{i}")])[0].text for i in range(3)] == ["fine"] * 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_a_server_whose_certificate_nobody_signed_is_not_talked_to(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    subprocess.run([*made, "-out", cert, "-keyout", key], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    with serving(echo, tls=context) as server:
        outcome = server.judge(retries=0).ask_all([ask()])[0]
        assert outcome.cause == "connection"
        assert "certificate" in outcome.detail
        assert server.bodies == []


def test_importing_the_rewards_loads_nothing_heavy() -> None:
    heavy = ("asyncio.base_events", "av", "aiohttp", "PIL", "torch")
    code = f"import sys, rewards;print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_metrics_say_what_happened() -> None:
    with serving(echo) as server:
        judge = server.judge()
        judge.ask_all([ask(f"{i}") for i in range(10)])
    summary = json.loads(json.dumps(judge.metrics.summary()))
    assert (summary["calls"], summary["requests"], summary["cached"], summary["failed"]) == (10, 10, 0, {})
    assert 0 < summary["seconds"]["p50"] <= summary["seconds"]["p99"] < 5


def test_a_judge_that_nobody_closed_ends_quietly_with_its_process() -> None:
    code = (
        "import sys; from rewards.judge_client.client import Ask, Judge\n"
        "from rewards.judge_client.judge_spec import JudgeSpec\n"
        "judges = [Judge(JudgeSpec(base_url=sys.argv[1], model='m')) for _ in range(2)]\n"
        "print([judge.ask_all([Ask('p/1', '', 'hello')])[0].text for judge in judges]); judges.pop()"
    )
    with serving(echo) as server:
        command = [sys.executable, "-c", code, server.judge().spec.base_url or ""]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.count("reply to hello") == 2
    assert ended.stderr == ""
