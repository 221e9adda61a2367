"""The cache of a judge's replies: its entries, their keys, and how it treats a damaged entry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from rewards.judge_client.client import Ask
from rewards.judge_client.judge_media import Shown
from tests.support.judge_server import Reply, ask, echo, in_turn, serving

WRITER = """
import sys
from rewards.chat_client.reply_cache import Cache
from pathlib import Path
cache = Cache(Path(sys.argv[1]))
for i in range(300):
    cache.put([(f"{sys.argv[2]} {i}".encode(), "p/1", "m", f"reply {i}", 0.0)])
    assert cache.get(f"{sys.argv[2]} {i}".encode()) == f"reply {i}"
print(cache.errors)
"""


def test_a_reply_in_the_cache_is_not_asked_for_again_by_whatever_process(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "judge.sqlite"
    asks = [ask(f"{i}") for i in range(30)]
    with serving(echo) as server:
        first = server.judge(cache=cache)
        before = first.ask_all(asks)
        second = server.judge(cache=cache)
        assert second.ask_all(asks) == before
        assert len(server.bodies) == 30
        assert second.metrics.summary()["cached"] == 30
        first.close()
        assert first.ask_all(asks[:1]) == before[:1]  # a closed judge opens itself again


def test_whatever_decides_the_reply_is_part_of_the_key(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    media = (Shown(Media("image", str(picture)), "Image 1:"),)
    with serving(lambda body: "ok") as server:

        def requests(question: Ask, **settings: Any) -> int:
            before = len(server.bodies)
            assert server.judge(cache=tmp_path / "judge.sqlite", **settings).ask_all([question])[0].text == "ok"
            return len(server.bodies) - before

        assert [requests(ask(shown=media)), requests(ask(shown=media))] == [1, 0]
        assert requests(Ask("test/2", "Judge.", "hello", media)) == 1
        assert requests(Ask("test/1", "Judge!", "hello", media)) == 1
        assert requests(ask("hallo", shown=media)) == 1
        assert requests(ask(shown=media, params={"seed": 1})) == 1
        assert requests(ask(shown=media), temperature=0.5) == 1
        assert requests(ask(shown=media), model="other") == 1
        assert requests(ask(shown=media), max_pixels=100) == 1
        assert requests(ask(shown=media), extra={"top_p": 0.5}) == 1
        Image.new("RGB", (41, 30), "blue").save(picture)
        assert [requests(ask(shown=media)), requests(ask(shown=media))] == [1, 0]


def test_a_failure_is_never_kept(tmp_path: Path) -> None:
    with serving(in_turn(Reply(status=400), "fine")) as server:
        judge = server.judge(cache=tmp_path / "judge.sqlite")
        assert [judge.ask_all([ask()])[0].text for _ in range(3)] == [None, "fine", "fine"]
        assert len(server.bodies) == 2


def test_a_damaged_cache_costs_calls_and_no_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "judge.sqlite"
    cache.write_bytes(b"this is no database" * 1000)
    with serving(echo) as server:
        assert server.judge(cache=cache).ask_all([ask("a"), ask("b")])[1].text == "reply to b"
    assert "does not work and is passed over" in caplog.text


def test_several_processes_write_one_cache(tmp_path: Path) -> None:
    path = str(tmp_path / "judge.sqlite")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], stdout=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    assert [writer.communicate()[0].strip() for writer in writers] == ["0", "0", "0"]


def test_half_a_surrogate_pair_is_the_only_reply_that_is_not_kept(tmp_path: Path) -> None:
    with serving(lambda body: Reply("\ud83d" if "odd" in echo(body) else echo(body))) as server:
        judge = server.judge(cache=tmp_path / "judge.sqlite")
        outcomes = judge.ask_all([ask("even"), ask("odd"), ask("even too")])
        assert [outcome.text for outcome in outcomes] == ["reply to even", "\ud83d", "reply to even too"]
        judge.ask_all([ask("even"), ask("odd"), ask("even too")])
    assert (judge.metrics.cached, judge.metrics.requests) == (2, 4)


def test_a_cache_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    with serving(echo) as server, pytest.raises(InputError, match=r"reply cache .* cannot be opened"):
        server.judge(cache=tmp_path).ask_all([ask()])
