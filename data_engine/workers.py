"""Per-sample stages in a pool of processes: in order, in bounded memory, and a process that dies costs one sample."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pkgutil import resolve_name
from typing import Any

from data_engine.ops.base import Dropped, Outcome, describe, quarantine
from data_engine.recipe import Stage
from data_engine.schema import Sample, with_id
from mmrl.config import InputError

logger = logging.getLogger(__name__)

CHUNK = 32  # samples per message to a worker

Step = tuple[str, Callable[[Sample], Outcome]]
Result = tuple[str, Outcome]  # what became of a sample, and the stage that stopped it, if one did

_steps: list[Step] = []  # of this worker process


def mapped(samples: Iterable[Sample], stages: Sequence[Stage], workers: int) -> Iterator[Result]:
    """The result of each sample after `stages`, in order; one worker means this process."""
    if workers == 1:
        steps = _resolved(stages)
        yield from (_through(sample, steps) for sample in samples)
        return
    source = iter(samples)
    crew = _Crew(stages, workers)
    pending: deque[tuple[list[Sample], Future[list[Result]]]] = deque()
    try:
        while chunk := list(itertools.islice(source, CHUNK)):
            pending.append((chunk, crew.submit(chunk)))
            if len(pending) > 2 * workers:
                yield from crew.results(*pending.popleft())
        while pending:
            yield from crew.results(*pending.popleft())
    finally:
        crew.close()


class _Crew:
    """A pool that is replaced when one of its processes dies (a decoder can crash on a hostile file)."""

    def __init__(self, stages: Sequence[Stage], workers: int) -> None:
        self.stages, self.workers = stages, workers
        self.pool = _pool(stages, workers)
        self.careful: ProcessPoolExecutor | None = None  # of one process: when it dies, it is clear on which sample

    def submit(self, chunk: list[Sample]) -> Future[list[Result]]:
        try:
            return self.pool.submit(_run, chunk)
        except BrokenProcessPool:
            self.pool = _pool(self.stages, self.workers)
            return self.pool.submit(_run, chunk)

    def results(self, chunk: list[Sample], future: Future[list[Result]]) -> list[Result]:
        """The results of a chunk; if a process died meanwhile, its samples are run again one by one."""
        try:
            return future.result()
        except BrokenProcessPool:
            logger.warning("a worker process died; running %d samples again one by one", len(chunk))
            return list(self._one_by_one(chunk))

    def _one_by_one(self, chunk: list[Sample]) -> Iterator[Result]:
        for sample in chunk:
            if self.careful is None:
                self.careful = _pool(self.stages, 1)
                self.careful.submit(_run, []).result()  # if even this breaks, no sample is to blame: let it surface
            try:
                yield from self.careful.submit(_run, [sample]).result()
            except BrokenProcessPool:
                self.careful = None
                why = "the process that looked at it died; check its media with another program"
                yield self.stages[0].name, quarantine(sample, "worker_died", why)

    def close(self) -> None:
        """End all processes; what they have not begun is left."""
        for pool in (self.pool, self.careful):
            if pool is not None:
                pool.shutdown(cancel_futures=True)


def _pool(stages: Sequence[Stage], workers: int) -> ProcessPoolExecutor:
    # spawn, not fork: a process that has started threads (torch, decoders) must not be forked
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(list(stages),))


def _start(stages: Sequence[Stage]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _steps.extend(_resolved(stages))


def _end_with_parent() -> None:
    """End this process when the main one is gone: killed, it cannot say so, and workers would wait for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _run(chunk: Sequence[Sample]) -> list[Result]:
    return [_through(sample, _steps) for sample in chunk]


def _resolved(stages: Sequence[Stage]) -> list[Step]:
    return [(stage.name, partial(_outcome, resolve_name(stage.target), stage)) for stage in stages]


def _outcome(function: Callable[..., Any], stage: Stage, sample: Sample) -> Outcome:
    """What one operator makes of a sample."""
    try:
        said = function(sample, **stage.args)
    except InputError as error:
        raise InputError(f"operator {stage.name}: {describe(sample)}: {error}") from None
    except Exception as error:
        raise RuntimeError(f"operator {stage.name} failed on {describe(sample)}: {error!r}") from error
    if stage.kind == "drops":
        return Dropped(sample, said) if said else sample
    return with_id(said) if isinstance(said, Sample) and said is not sample else said


def _through(sample: Sample, steps: Sequence[Step]) -> Result:
    for name, step in steps:
        outcome = step(sample)
        if not isinstance(outcome, Sample):
            return name, outcome
        sample = outcome
    return "", sample
