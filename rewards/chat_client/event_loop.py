"""One event loop in a thread of its own, because rewards are synchronous and may be called inside a running loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

NAME = "judges"  # of the thread
STEP = 16  # tasks that start before the loop looks for replies

batch: ContextVar[dict[Any, str]] = ContextVar("batch")  # the replies to the questions of one `gathered`

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a forked child has the loop but not its thread


def wait_for(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`, done on the background loop; an interrupt of the caller cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def gathered(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """The results of all `work`, done at once on the background loop."""
    return wait_for(all_of(work))


async def all_of(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """The results of all `work`. It is begun in steps, so that the first replies are read while the last are asked."""
    batch.set({})
    tasks: list[asyncio.Task[ResultT]] = []
    try:
        for number, one in enumerate(work, 1):
            tasks.append(asyncio.ensure_future(one))
            if number % STEP == 0:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()  # without effect once it is done


def begin(work: Coroutine[Any, Any, object], *, wait: float) -> None:
    """Start `work` on the background loop, and wait some seconds for it unless this is the loop's own thread."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    if threading.current_thread().name != NAME:
        concurrent.futures.wait([future], wait)


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name=NAME, daemon=True).start()
        return loop
