"""How many calls, how fast, and when to stop asking: all used on one event loop, so none of them needs a lock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

ThingT = TypeVar("ThingT")


class Slots(Generic[ThingT]):
    """A pool of resources with exclusive use; urgent callers (retries) are served first."""

    def __init__(self, things: list[ThingT]) -> None:
        self._free = things
        self._waiting: list[tuple[bool, int, asyncio.Future[ThingT]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def one(self, *, hurry: bool) -> AsyncIterator[ThingT]:
        """A thing for as long as the block lasts."""
        thing = self._free.pop() if self._free else await self._wait(hurry)
        try:
            yield thing
        finally:
            self._give(thing)

    async def _wait(self, hurry: bool) -> ThingT:
        turn: asyncio.Future[ThingT] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not hurry, next(self._order), turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given and then could not be taken
                self._give(turn.result())
            raise

    def _give(self, thing: ThingT) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(thing)
                return
        self._free.append(thing)


class Bucket:
    """A token bucket: `rate` requests a second, and `burst` at once after a rest; without a rate, no limit."""

    def __init__(self, rate: float | None, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._seen = float(burst), -float("inf")

    async def take(self) -> None:
        """Wait for a token. They are given in the order of asking: a caller waits in advance for its debt."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._seen) * self._rate)
        self._seen = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


class Breaker:
    """A circuit breaker: opens after `limit` failures in a row, and lets one probe through after each `pause`."""

    def __init__(self, limit: int, pause: float) -> None:
        self._limit, self._pause = limit, pause
        self._failures, self._open_until, self.openings = 0, 0.0, 0

    def admits(self, now: float) -> bool:
        """Whether a request may be sent; the first one after a pause is the probe, and the rest wait for its result."""
        if self._failures < self._limit:
            return True
        if now < self._open_until:
            return False
        self._open_until = now + self._pause
        return True

    def report(self, ok: bool, now: float) -> None:
        """Note how a request that was sent ended."""
        if ok:
            self._failures = 0
            return
        self._failures += 1
        if self._failures == self._limit:
            self.openings += 1
        if self._failures >= self._limit:
            self._open_until = now + self._pause
