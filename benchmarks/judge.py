"""A judge with 64 calls in flight at a server that takes 20 ms, against the ideal and the openai client; and its cache.

The ideal is calls x 20 ms / 64. The floor is what the same server on the same machine gives a client that does nothing
but write requests to 64 open connections and read replies. The peer is `asyncio.gather` over `openai.AsyncOpenAI`
behind a semaphore of 64. The server is a process of its own; all connections are open before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.rounds import parser_of, save
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_spec import JudgeSpec

IN_FLIGHT, DELAY = 64, 0.02
TEXTS = ("a red bus", "two dogs", "a table by the window", "a street in the rain")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in turn, print the table, write the rows."""
    parser = parser_of(__doc__, "fewer calls and rounds")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        exact = asyncio.SelectorEventLoop(selectors.SelectSelector())  # epoll would round 20 ms up to 21
        exact.run_until_complete(serve())
        return
    calls, rounds = (600, 3) if options.quick else (3000, 5)
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.judge", "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        rows = measured(url, calls, rounds)
    finally:
        server.terminate()
        server.wait()
    save(rows, options.json)


def measured(url: str, calls: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    asks = [Ask("bench/1", "You judge.", f"{TEXTS[i % len(TEXTS)]}, seen {i} times") for i in range(calls)]
    with tempfile.TemporaryDirectory() as folder:
        turns = [one_of_each(url, asks, Path(folder) / f"{number}.sqlite") for number in range(rounds)]
    timings = {name: [turn[name] for turn in turns] for name in turns[0]}
    ideal = calls * DELAY / IN_FLIGHT
    middle = {name: statistics.median(column) for name, column in timings.items()}
    print(f"{calls} calls, {IN_FLIGHT} in flight, {DELAY * 1000:g} ms each, {rounds} rounds; median (range) in seconds")
    for name, column in timings.items():
        speed = calls / middle[name]
        print(f"  {name:32} {middle[name]:7.3f} ({min(column):.3f} to {max(column):.3f})  {speed:8.0f} calls/s")
    print(f"  {'ideal':32} {ideal:7.3f}")
    return [
        row("first run against the peer", middle["judge"], middle["asyncio.gather over openai"], "s", calls),
        row("first run against the ideal", middle["judge"], ideal, "s", calls),
        row("first run against bare connections", middle["judge"], middle["bare connections"], "s", calls),
        row("second run, from the cache", calls / middle["judge, from cache"], 2000.0, "verdicts/s", calls),
    ]


def one_of_each(url: str, asks: Sequence[Ask], cache: Path) -> dict[str, float]:
    """The seconds that each way of asking takes."""
    return {
        "judge": with_judge(url, asks, cache, cached=False),
        "bare connections": asyncio.run(with_streams(url, asks)),
        "asyncio.gather over openai": asyncio.run(with_openai(url, asks)),
        "judge, from cache": with_judge(url, asks, cache, cached=True),
    }


def row(case: str, ours: float, peer: float, unit: str, n: int) -> dict[str, Any]:
    return {"case": case, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": unit, "n": n}


def with_judge(url: str, asks: Sequence[Ask], cache: Path, *, cached: bool) -> float:
    """The seconds of a judge for all questions, from its cache or not."""
    judge = Judge(JudgeSpec(base_url=url, model="m", concurrency=IN_FLIGHT, cache=cache))
    judge.ask_all([Ask("warm/1", "", str(i)) for i in range(IN_FLIGHT)])
    before, start = judge.metrics.cached, time.perf_counter()
    judge.ask_all(asks)
    seconds = time.perf_counter() - start
    assert judge.metrics.cached - before == len(asks) * cached
    judge.close()
    return seconds


async def with_openai(url: str, asks: Sequence[Ask]) -> float:
    import openai

    places = asyncio.Semaphore(IN_FLIGHT)
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

        async def complete(ask: Ask) -> str | None:
            async with places:
                reply = await client.chat.completions.create(model="m", messages=messages(ask), max_tokens=1024)
            return reply.choices[0].message.content

        await asyncio.gather(*map(complete, asks[:IN_FLIGHT]))
        start = time.perf_counter()
        await asyncio.gather(*map(complete, asks))
        return time.perf_counter() - start


async def with_streams(url: str, asks: Sequence[Ask]) -> float:
    place, left = urlsplit(url), iter(asks)
    streams = [await asyncio.open_connection(place.hostname, place.port) for _ in range(IN_FLIGHT)]

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for ask in left:
            body = json.dumps({"model": "m", "messages": messages(ask), "max_tokens": 1024}).encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await body_of(reader)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(send(*stream) for stream in streams))
    return time.perf_counter() - start


def messages(ask: Ask) -> list[Any]:
    return [{"role": "system", "content": ask.system}, {"role": "user", "content": ask.user}]


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request or response."""
    length = re.search(rb"content-length: *(\d+)", await reader.readuntil(b"\r\n\r\n"), re.IGNORECASE)
    return await reader.readexactly(int(length[1]) if length else 0)


async def serve() -> None:
    """Answer every request after 20 ms; the port is printed."""
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}}]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await body_of(reader)
                await asyncio.sleep(DELAY)
                writer.write(head + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    main()
