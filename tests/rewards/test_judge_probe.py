"""Judges are asked before long work begins."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mmrl.core.config import RunError
from rewards import Suite
from tests.support.judge_server import Reply, serving


def suite(base_url: str, *, inline: bool = False, model: str = "m") -> Suite:
    judge: dict[str, Any] = {"base_url": base_url, "model": model, "retries": 0, "deadline": 5}
    spec = {"fn": "judge", "args": {"judge": judge if inline else "ours"}}
    return Suite({"quality": spec, "form": {"fn": "think_format"}}, judges={} if inline else {"ours": judge})


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("inline", [False, True], ids=["by name", "inline"])
def test_a_judge_that_is_not_there_is_named_with_its_address(inline: bool) -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    name = "of the reward quality" if inline else "ours"
    with pytest.raises(RunError, match=f"judge {name} does not answer .m at {address}: connection, ") as error:
        suite(address, inline=inline).check_judges()
    assert len(str(error.value)) < 500


def test_a_judge_that_answers_is_asked_once_and_nothing_is_counted() -> None:
    asked: list[dict[str, Any]] = []
    with serving(lambda body: asked.append(body) or "ready") as server:
        there = suite(server.url)
        there.check_judges()
    assert len(asked) == 1
    assert there.judges["ours"].metrics.calls == 0


def test_an_unknown_model_is_found() -> None:
    with serving(lambda _: Reply(status=404, body=b'{"error": "no such model"}')) as server:
        assert "refused" in suite(server.url).unreached_judges()["ours"]
