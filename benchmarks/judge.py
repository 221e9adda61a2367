"""A judge with 64 calls in flight at a server that takes 20 ms, against the ideal and the openai client; and its cache.

The ideal is calls x 20 ms / 64. The peer is `asyncio.gather` over `openai.AsyncOpenAI` behind a semaphore of 64.
The server is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rewards.judging.client import Ask, Judge
from rewards.judging.spec import JudgeSpec

IN_FLIGHT, DELAY = 64, 0.02
TEXTS = ("a red bus", "two dogs", "a table by the window", "a street in the rain")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in turn, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls and rounds")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        asyncio.run(serve())
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
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(url: str, calls: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    asks = [Ask("bench/1", "You judge.", f"{TEXTS[i % len(TEXTS)]}, seen {i} times") for i in range(calls)]
    with tempfile.TemporaryDirectory() as folder:

        def first(number: int) -> float:
            judge = judge_at(url, Path(folder) / f"{number}.sqlite")
            seconds = timed(lambda: judge.ask_all(asks))
            judge.close()
            return seconds

        def again(number: int) -> float:
            judge = judge_at(url, Path(folder) / f"{number}.sqlite")
            seconds = timed(lambda: judge.ask_all(asks))
            assert judge.metrics.cached == calls
            judge.close()
            return seconds

        timings = [(first(number), timed(lambda: with_openai(url, asks)), again(number)) for number in range(rounds)]
    ours, theirs, cached = (list(column) for column in zip(*timings, strict=True))
    ideal = calls * DELAY / IN_FLIGHT
    print(f"{calls} calls, {IN_FLIGHT} in flight, {DELAY * 1000:g} ms each, {rounds} rounds; median (range) in seconds")
    for name, column in (("judge", ours), ("asyncio.gather over openai", theirs), ("judge, from cache", cached)):
        middle = statistics.median(column)
        print(f"  {name:32} {middle:7.3f} ({min(column):.3f} to {max(column):.3f})  {calls / middle:8.0f} calls/s")
    print(f"  {'ideal':32} {ideal:7.3f}")
    return [
        row("first run against the peer", statistics.median(ours), statistics.median(theirs), "s", calls),
        row("first run against the ideal", statistics.median(ours), ideal, "s", calls),
        row("second run, from the cache", calls / statistics.median(cached), 2000.0, "verdicts/s", calls),
    ]


def row(case: str, ours: float, peer: float, unit: str, n: int) -> dict[str, Any]:
    return {"case": case, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": unit, "n": n}


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def judge_at(url: str, cache: Path) -> Judge:
    return Judge(JudgeSpec(base_url=url, model="m", concurrency=IN_FLIGHT, cache=cache))


def messages(ask: Ask) -> list[Any]:
    return [{"role": "system", "content": ask.system}, {"role": "user", "content": ask.user}]


def with_openai(url: str, asks: Sequence[Ask]) -> None:
    import openai

    async def run() -> None:
        places = asyncio.Semaphore(IN_FLIGHT)
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one(ask: Ask) -> str | None:
                async with places:
                    reply = await client.chat.completions.create(model="m", messages=messages(ask), max_tokens=1024)
                return reply.choices[0].message.content

            await asyncio.gather(*map(one, asks))

    asyncio.run(run())


async def serve() -> None:
    """Answer every request after 20 ms; the port is printed."""
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}}]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = re.search(rb"content-length: *(\d+)", await reader.readuntil(b"\r\n\r\n"), re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                await asyncio.sleep(DELAY)
                writer.write(head + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    main()
