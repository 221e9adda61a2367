"""Calls to one server from one process: places, rate, retries, deadline and circuit breaker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rewards.judge_client.call_metrics import Metrics
from rewards.judge_client.faults import Fault
from rewards.judge_client.http import Connection
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.judge_client.limits import Breaker, Bucket, Slots

Body = Callable[[], Awaitable[Mapping[str, Any]]]


class Session:
    """The connections to a judge's server; lives on one event loop."""

    def __init__(self, spec: JudgeSpec, key: str | None, metrics: Metrics) -> None:
        self._spec, self._metrics = spec, metrics
        assert spec.base_url is not None  # the spec wants one with this backend
        self._connections = [Connection(spec.base_url, key, spec.max_response) for _ in range(spec.concurrency)]
        self._slots = Slots(list(self._connections))
        self._bucket = Bucket(spec.rate, spec.burst)
        self._breaker = Breaker(spec.breaker, spec.pause)

    async def text(self, body: Body) -> str:
        """The text of a reply, within the deadline; `body` is made only once there is a place to send it from."""
        clock = asyncio.timeout(None)
        try:
            async with clock:
                for attempt in range(self._spec.retries):
                    try:
                        return await self._attempt(body, clock, hurry=attempt > 0)
                    except Fault as fault:
                        if not fault.again or fault.after >= self._spec.deadline:
                            raise
                        await asyncio.sleep(max(random.uniform(0, self._spec.backoff * 2**attempt), fault.after))
                return await self._attempt(body, clock, hurry=self._spec.retries > 0)
        except TimeoutError:
            raise Fault("deadline", f"no reply within {self._spec.deadline:g} s") from None

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            await connection.close()

    async def _attempt(self, body: Body, clock: asyncio.Timeout, *, hurry: bool) -> str:
        now = asyncio.get_running_loop().time
        async with self._slots.one(hurry=hurry) as connection:
            if not self._breaker.admits(now()):
                raise Fault("circuit_open", "the server failed too often in a row; asked again after a pause")
            content = await body()
            await self._bucket.take()
            if clock.when() is None:
                clock.reschedule(now() + self._spec.deadline)
            return await self._sent(connection, content)

    async def _sent(self, connection: Connection, content: Mapping[str, Any]) -> str:
        self._metrics.requests += 1
        ok = False
        try:
            text = await connection.reply(content)
            ok = True
        finally:  # a deadline arrives as a cancellation, and is a failure of the server too
            self._breaker.report(ok, asyncio.get_running_loop().time())
        return text
