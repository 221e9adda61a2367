"""What a recipe will cost, measured: its first samples are read and run through its stages, nothing is written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from data_engine.files import Opened, opened
from data_engine.ops.base import Dropped, Quarantined
from data_engine.recipe import Plan, PlannedSource
from data_engine.schema import Sample
from data_engine.steps import Step, outcome

NETWORK = ("hub",)  # sources that are not read to be measured
COUNTING = 1.0  # seconds for which the rest of a source is read to know how long it is


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step did to `n` samples: seconds, how many media files it opened and their bytes, how many it stopped."""

    step: str
    n: int
    seconds: float
    files: int
    bytes: int
    stopped: int


@dataclass(frozen=True, slots=True)
class Length:
    """How many samples a source has; `exact` is False where it was not read to its end. None: not read at all."""

    source: str
    n: int | None
    exact: bool


def measured(planned: Plan, n: int) -> tuple[list[Length], list[Cost]]:
    """The lengths of the sources, and the costs of all steps on the first `n` samples of each source."""
    samples: list[Sample] = []
    lengths, costs = [], []
    for source in planned.sources:
        length, cost, read = _read(source, n)
        lengths.append(length)
        costs += [cost] if cost else []
        samples += read
    for stage in planned.stages:
        cost, samples = _run(Step(stage, ""), samples)
        costs.append(cost)
    return lengths, costs


def _read(source: PlannedSource, n: int) -> tuple[Length, Cost | None, list[Sample]]:
    if source.spec.fn in NETWORK:
        return Length(source.label, source.spec.limit, exact=False), None, []
    items = itertools.islice(source.read(), source.spec.limit)
    samples: list[Sample] = []

    def read() -> list[bool]:
        """Whether each item could be read, until the time is up."""
        until, read = time.monotonic() + COUNTING, list[bool]()
        for item in items:
            read.append(isinstance(item, Sample))
            if isinstance(item, Sample) and len(samples) < n:
                samples.append(item)
            if len(read) >= n and time.monotonic() > until:
                break
        return read

    read_well, seconds, media = _timed(read)
    cost = Cost(f"read {source.label}", len(read_well), seconds, media.files, media.bytes, read_well.count(False))
    return Length(source.label, len(read_well), exact=next(items, None) is None), cost, samples


def _run(step: Step, samples: Sequence[Sample]) -> tuple[Cost, list[Sample]]:
    list(_results(step, samples[:1]))  # so that what happens once, as imports, does not count
    results, seconds, media = _timed(lambda: list(_results(step, samples)))
    kept = [one for one in results if isinstance(one, Sample)]
    return Cost(step.name, len(samples), seconds, media.files, media.bytes, len(samples) - len(kept)), kept


def _results(step: Step, samples: Iterable[Sample]) -> Iterator[Sample | Dropped | Quarantined]:
    if step.stage.kind == "stream":
        return resolve_name(step.stage.target)(iter(samples), **step.stage.args)
    return (outcome([step], sample)[1] for sample in samples)


def _timed(work: Callable[[], list[Any]]) -> tuple[list[Any], float, Opened]:
    before, since = Opened(opened.files, opened.bytes), time.perf_counter()
    made = work()
    seconds = time.perf_counter() - since
    return made, seconds, Opened(opened.files - before.files, opened.bytes - before.bytes)
