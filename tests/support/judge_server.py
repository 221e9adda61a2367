"""A chat-completions server on loopback that answers by a script, in every way a server can."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from rewards import Rollout, Verdict, get
from rewards.chat_client.event_loop import wait_for
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_spec import JudgeSpec

KEY = re.compile(r'"key": "(\w+)"')
DATA = re.compile(r"<data ([0-9a-f]{16})>\n(.*)(?:\n\(the first .*\))?\n</data \1>")


@dataclass(frozen=True)
class Reply:
    """A text as a chat completion, or any body with any status; `cut` ends the connection after so many bytes."""

    text: str = ""
    status: int = 200
    body: bytes | None = None
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    raw: bytes | None = None  # the whole response, instead of all the above

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": self.text}}]}).encode()


Script = Callable[[dict[str, Any]], Reply | str]
FAILURES: list[tuple[Reply, str]] = [
    (Reply(status=429), "throttled"),
    (Reply(status=500, body=b"oops"), "server"),
    (Reply(status=503), "server"),
    (Reply("late", delay=30.0), "deadline"),
    (Reply("x", cut=0), "connection"),
    (Reply("x" * 100, cut=150), "connection"),
    (Reply(body=b'{"choices": [{"mess'), "malformed"),
    (Reply(body=b"[" * 15_000), "malformed"),
    (Reply(body=b'{"choices": []}'), "malformed"),
    (Reply(body=b'{"error": "no such model"}'), "malformed"),
    (Reply(body=b'{"choices": [{"message": {"content": null}}]}'), "malformed"),
    (Reply(" "), "malformed"),
    (Reply(body=b"\xff\xfe\x00"), "malformed"),
    (Reply("ok", headers={"content-encoding": "gzip"}), "malformed"),
    (Reply("x" * 30_000), "too_large"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n" + b"x" * 50_000), "too_large"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", cut=1000), "malformed"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}"), "malformed"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9e9\r\n\r\n{}"), "malformed"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000 + b"\r\n\r\n{}"), "malformed"),
    (Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, cut=1_000_000), "too_large"),
    (Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "malformed"),
    (Reply(raw=b"\xff\x00\r\n\r\n"), "malformed"),
    (Reply(status=400), "refused"),
    (Reply(status=401), "refused"),
    (Reply(status=302, headers={"location": "http://127.0.0.1:1/"}), "refused"),
    (Reply(status=429, headers={"retry-after": "9" * 500}), "throttled"),
]


@dataclass
class Server:
    """The address of a running server, and the requests it got; `most` is how many it had in hand at once."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    now: int = 0
    most: int = 0

    def judge(self, **settings: Any) -> Judge:
        """A judge that asks this server."""
        defaults = {"deadline": 5.0, "backoff": 0.01, "base_url": self.url, "model": "scripted"}
        return Judge(JudgeSpec.model_validate({**defaults, **settings}), "local")


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that answers by `script`, on the judges' event loop: two would wait for each other's turn."""
    server, tasks = Server(""), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_connection(reader, writer, script, server))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", ssl=tls)

    async def stop() -> None:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listening = wait_for(start())
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        wait_for(stop())


async def _connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script, server: Server
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            server.arrivals.append(asyncio.get_running_loop().time())
            server.bodies.append(body)
            server.headers.append(head)
            server.now += 1
            server.most = max(server.most, server.now)
            given = script(body)
            reply = Reply(given) if isinstance(given, str) else given
            await asyncio.sleep(reply.delay)
            server.now -= 1
            content = reply.content()
            headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            whole = f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode() + content
            whole = whole if reply.raw is None else reply.raw
            writer.write(whole if reply.cut is None else whole[: reply.cut])
            await writer.drain()
            if reply.cut is not None:
                break
    writer.close()


def user_text(body: dict[str, Any]) -> str:
    """The words of the user message of a request, without its pictures."""
    content = body["messages"][1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def pictures(body: dict[str, Any]) -> list[str]:
    """The data URIs of a request."""
    content = body["messages"][1]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def quotes(body: dict[str, Any]) -> list[str]:
    """The texts that a request quotes, each checked against its mark."""
    quoted = [(mark, json.loads(text)) for mark, text in DATA.findall(user_text(body))]
    assert all(hashlib.sha256(text.encode()).hexdigest()[:16] == mark for mark, text in quoted)
    return [text for _, text in quoted]


def verdict(body: dict[str, Any], **fields: Any) -> str:
    """A verdict that repeats the key of the request; a probe has none."""
    keys = KEY.findall(user_text(body))
    return json.dumps({"key": keys[-1] if keys else "", **fields})


def replying(**fields: Any) -> Callable[[dict[str, Any]], str]:
    """A script of verdicts that all hold `found`."""
    return lambda body: verdict(body, **fields)


def score(server: Server, name: str, rollout: Rollout, **options: Any) -> Verdict:
    """The verdict of a judged reward on one rollout."""
    return get(name, judge=server.judge(), **options)([rollout])[0]


def ask(text: str = "hello", **fields: Any) -> Ask:
    """A question to a judge."""
    return Ask("test/1", "Judge.", text, **fields)


def echo(body: dict[str, Any]) -> str:
    """A script that repeats the question."""
    return f"reply to {body['messages'][1]['content']}"


def in_turn(*replies: Reply | str) -> Callable[[dict[str, Any]], Reply | str]:
    """Each reply once, and then the last one for ever."""
    rest = list(replies)
    return lambda body: rest.pop(0) if len(rest) > 1 else rest[0]
