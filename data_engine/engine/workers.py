"""Per-sample stages over chunks in a pool of processes; a process that dies costs one sample.

Pools are those of `concurrent.futures`, which are faster per chunk. After a death the chunk runs again sample by sample
in one process of pebble, which reports how it ended.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pebble import ProcessExpired, ProcessPool

from data_engine.engine.chunks import Chunk, Chunks, Ref
from data_engine.engine.map_stage import Step, chunk_keys, outcome_of, run_steps
from data_engine.media import deadline
from data_engine.operator import Outcome, describe, quarantine
from data_engine.schema import Sample
from mmrl.core.config import RunError
from mmrl.core.own_code import Here, find_here

logger = logging.getLogger(__name__)

TOO_SLOW = "too_slow"
SAFE_PATH = (
    "PYTHONSAFEPATH",
    "mmrl",
)  # for processes as they start: no module of the current folder in place of Python's


class Crew:
    """Runs steps over chunks in `workers` processes, or in this process if 0. Processes start when there is work.

    A pool is replaced when one of its processes dies: a decoder can crash on a hostile file, or hang.
    """

    def __init__(self, chunks: Chunks, workers: int) -> None:
        self.chunks, self.workers = chunks, workers
        self._pool: ProcessPoolExecutor | None = None
        self._careful: ProcessPool | None = None
        self._slow: dict[str, str] = {}  # a file that took too long -> the message; many samples may use one file

    def mapped(self, steps: Sequence[Step], refs: Iterable[Ref]) -> Iterator[Ref]:
        """The result of the steps on each chunk, in order; only a few chunks are taken ahead."""
        if not self.workers:
            yield from (run_steps(self.chunks, steps, ref.key) for ref in refs)
            return
        source = iter(refs)
        pending: deque[tuple[Ref, Ref | Future[Ref]]] = deque()
        while True:
            ahead = 2 * self.workers - sum(isinstance(result, Future) for _, result in pending)
            pending += ((ref, self._begun(steps, ref)) for ref in itertools.islice(source, max(ahead, 0)))
            if not pending:
                return
            yield self._result(steps, *pending.popleft())

    def close(self) -> None:
        """End all processes; work that has not begun is cancelled."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._careful is not None:
            self._careful.stop()
            self._careful.join()
        _leave_safe_path()

    def _begun(self, steps: Sequence[Step], ref: Ref) -> Ref | Future[Ref]:
        """The result if an earlier run made it, else its future."""
        if known := self.chunks.ref(chunk_keys(steps, ref.key)[-1]):
            return known
        for _ in range(2):
            self._pool = self._pool or _pool(self.workers)
            try:
                return self._pool.submit(run_steps, self.chunks, steps, ref.key)
            except BrokenProcessPool:
                self._pool = None
        raise RuntimeError("worker processes die as soon as they start")

    def _result(self, steps: Sequence[Step], ref: Ref, begun: Ref | Future[Ref]) -> Ref:
        if isinstance(begun, Ref):
            return begun
        try:
            return begun.result()
        except BrokenProcessPool:
            self._pool = None
            return self.one_by_one(steps, ref)

    def one_by_one(self, steps: Sequence[Step], ref: Ref) -> Ref:
        """The result of the steps on a chunk on which a process died; samples that kill one are quarantined."""
        key = chunk_keys(steps, ref.key)[-1]
        if known := self.chunks.ref(key):  # it was finished before the process died on another chunk
            return known
        logger.warning("a worker process ended early; running %d samples again one by one", ref.kept)
        made = Chunk()
        outcomes = [self._alone(steps, sample) for sample in self.chunks.read(ref.key).kept]
        for number, result in sorted(outcomes, key=lambda pair: pair[0]):  # the order of chunks that ran as a whole
            made.kept.append(result) if isinstance(result, Sample) else made.stop(steps[number].name, result)
        return self.chunks.write(made, key)

    def _alone(self, steps: Sequence[Step], sample: Sample) -> tuple[int, Outcome]:
        paths = [media.path for media in sample.media if media.path is not None]
        if known := next((self._slow[path] for path in paths if path in self._slow), None):
            return 0, quarantine(sample, TOO_SLOW, known)
        try:
            return self._single().schedule(outcome_of, args=(steps, sample)).result()
        except ProcessExpired as ended:
            if ended.exitcode == -signal.SIGKILL:  # no decoder does that
                raise RunError(
                    f"{describe(sample)}: the system ended the process that looked at it (SIGKILL), as it does when "
                    "memory is short; close other programs or take fewer workers, and run it again: it resumes"
                ) from None
            reason, why = _cause(ended.exitcode or 0)
            if reason == TOO_SLOW and len(sample.media) == len(paths) == 1:
                self._slow[paths[0]] = why
            return 0, quarantine(sample, reason, why)

    def _single(self) -> ProcessPool:
        """A process for one sample at a time: when it ends, it is clear on which sample and how.

        Pebble names the exit code and starts another process; the pool of `concurrent.futures` does neither.
        """
        if self._careful is None:
            os.environ.setdefault(*SAFE_PATH)
            spawn: Any = multiprocessing.get_context("spawn")  # pebble asks for a type that no context has
            self._careful = ProcessPool(1, initializer=_start, initargs=(Here.named,), context=spawn)
            try:
                self._careful.schedule(os.getpid).result()
            except ProcessExpired:  # no sample is to blame: let it surface
                raise RuntimeError("worker processes die as soon as they start") from None
        return self._careful


def _cause(code: int) -> tuple[str, str]:
    """(reason, why) of the quarantine of a sample on which a process ended with this exit code."""
    if -code in deadline.SIGNALS:
        return TOO_SLOW, "decoding its media took longer than limits.seconds of validate; encode them again"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "worker_died", f"the process that looked at it ended early ({how}); check its media with another program"


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn, not fork: a process that has started threads (torch, decoders) must not be forked
    os.environ.setdefault(*SAFE_PATH)
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (Here.named,))


def _leave_safe_path() -> None:
    if os.environ.get(SAFE_PATH[0]) == SAFE_PATH[1]:  # and not the user's own setting
        del os.environ[SAFE_PATH[0]]


def _start(own: set[str]) -> None:
    find_here(own)
    _leave_safe_path()
    deadline.spare_process()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the main one is gone: a main process that was killed cannot tell its workers."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
