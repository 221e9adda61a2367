"""Calls to one server from one process: places, rate, retries, deadline and circuit breaker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from rewards.chat_client.call_metrics import Metrics
from rewards.chat_client.faults import Fault
from rewards.chat_client.http import Connection, first_tokens_of, text_of
from rewards.chat_client.limits import Breaker, Bucket, Slots
from rewards.chat_client.settings import ServerSettings

Request = Mapping[str, Any]  # the JSON body of a request
Body = Callable[[], Awaitable[Request]]
ReplyT = TypeVar("ReplyT")


class Session:
    """The connections to a server; lives on one event loop."""

    def __init__(self, base_url: str, settings: ServerSettings, key: str | None, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._connections = [Connection(base_url, key, settings.max_response) for _ in range(settings.concurrency)]
        self._slots = Slots(list(self._connections))
        self._bucket = Bucket(settings.rate, settings.burst)
        self._breaker = Breaker(settings.breaker, settings.pause)

    async def text(self, body: Body) -> str:
        """The text of a reply, or its likeliest first tokens if the request asks for `logprobs`."""
        return await self.reply(body, _text)

    async def reply(self, body: Body, read: Callable[[Request, bytes], ReplyT]) -> ReplyT:
        """The result of `read` on the reply to a request, within the deadline, or a Fault.

        `body` is made only once there is a place to send it from. A reply that `read` refuses with a Fault counts as a
        failure of the server.
        """
        settings, clock = self._settings, asyncio.timeout(None)
        try:
            async with clock:
                for attempt in range(settings.retries):
                    try:
                        return await self._attempt(body, read, clock, hurry=attempt > 0)
                    except Fault as fault:
                        if not fault.again or fault.after >= settings.deadline:
                            raise
                        await asyncio.sleep(max(random.uniform(0, settings.backoff * 2**attempt), fault.after))
                return await self._attempt(body, read, clock, hurry=settings.retries > 0)
        except TimeoutError:
            raise Fault("deadline", f"no reply within {settings.deadline:g} s") from None

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            await connection.close()

    async def _attempt(
        self, body: Body, read: Callable[[Request, bytes], ReplyT], clock: asyncio.Timeout, *, hurry: bool
    ) -> ReplyT:
        now = asyncio.get_running_loop().time
        async with self._slots.one(hurry=hurry) as connection:
            if not self._breaker.admits(now()):
                raise Fault("circuit_open", "the server failed too often in a row; asked again after a pause")
            request = await body()
            await self._bucket.take()
            if clock.when() is None:
                clock.reschedule(now() + self._settings.deadline)
            self._metrics.requests += 1
            ok = False
            try:
                reply = read(request, await connection.reply(request))
                ok = True
            except Fault as fault:
                ok = fault.too_long  # the server is well
                raise
            finally:  # a deadline arrives as a cancellation, and is a failure of the server too
                self._breaker.report(ok, now())
            return reply


def _text(request: Request, content: bytes) -> str:
    return first_tokens_of(content) if request.get("logprobs") else text_of(content)
