"""Per-sample stages over chunks, in a pool of processes: in order, and a process that dies costs one sample."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from data_engine.chunks import Chunk, Chunks, Ref
from data_engine.ops.base import Dropped, Quarantined, quarantine
from data_engine.schema import Sample
from data_engine.steps import Step, keys, outcome, through

logger = logging.getLogger(__name__)


class Crew:
    """Runs steps over chunks with so many processes; one means this process. Processes start when there is work.

    A pool is replaced when one of its processes dies (a decoder can crash on a hostile file).
    """

    def __init__(self, chunks: Chunks, workers: int) -> None:
        self.chunks, self.workers = chunks, workers
        self._pool: ProcessPoolExecutor | None = None
        self._careful: ProcessPoolExecutor | None = None  # of one process: when it dies, it is clear on which sample

    def mapped(self, steps: Sequence[Step], refs: Iterable[Ref]) -> Iterator[Ref]:
        """What the steps make of each chunk, in order; not more than a few chunks are taken ahead."""
        if self.workers == 1:
            yield from (through(self.chunks, steps, ref.key) for ref in refs)
            return
        source = iter(refs)
        pending: deque[tuple[Ref, Ref | Future[Ref]]] = deque()
        while True:
            ahead = 2 * self.workers - sum(isinstance(one, Future) for _, one in pending)
            pending += ((ref, self._begun(steps, ref)) for ref in itertools.islice(source, max(ahead, 0)))
            if not pending:
                return
            yield self._result(steps, *pending.popleft())

    def close(self) -> None:
        """End all processes; what they have not begun is left."""
        for pool in (self._pool, self._careful):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def _begun(self, steps: Sequence[Step], ref: Ref) -> Ref | Future[Ref]:
        """The result, if it is there from an earlier run, or the promise of one."""
        if known := self.chunks.ref(keys(steps, ref.key)[-1]):
            return known
        for _ in range(2):
            self._pool = self._pool or _pool(self.workers)
            try:
                return self._pool.submit(through, self.chunks, steps, ref.key)
            except BrokenProcessPool:
                self._pool = None
        raise RuntimeError("worker processes die as soon as they start")

    def _result(self, steps: Sequence[Step], ref: Ref, found: Ref | Future[Ref]) -> Ref:
        if isinstance(found, Ref):
            return found
        try:
            return found.result()
        except BrokenProcessPool:
            self._pool = None
            return self.one_by_one(steps, ref)

    def one_by_one(self, steps: Sequence[Step], ref: Ref) -> Ref:
        """What the steps make of a chunk that went wrong: a sample on which a process dies is lost, and said."""
        key = keys(steps, ref.key)[-1]
        if known := self.chunks.ref(key):  # it was done before the process died on another one
            return known
        logger.warning("a worker process ended early; running %d samples again one by one", ref.kept)
        made = Chunk()
        for sample in self.chunks.read(ref.key).kept:
            name, result = self._alone(steps, sample)
            made.kept.append(result) if isinstance(result, Sample) else made.stop(name, result)
        return self.chunks.write(made, key)

    def _alone(self, steps: Sequence[Step], sample: Sample) -> tuple[str, Sample | Dropped | Quarantined]:
        if self._careful is None:
            self._careful = _pool(1)
            self._careful.submit(os.getpid).result()  # if even this breaks, no sample is to blame: let it surface
        try:
            return self._careful.submit(outcome, steps, sample).result()
        except BrokenProcessPool:
            self._careful = None
            why = "the process that looked at it died; check its media with another program"
            return steps[0].name, quarantine(sample, "worker_died", why)


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn, not fork: a process that has started threads (torch, decoders) must not be forked
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start)


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the main one is gone: killed, it cannot say so, and workers would wait for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
