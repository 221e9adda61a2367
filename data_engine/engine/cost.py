"""The cost of a recipe, measured on its first samples; nothing is written."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from data_engine.engine.map_stage import Step, outcome_of
from data_engine.engine.source_stage import as_read
from data_engine.operator import Outcome
from data_engine.recipe import Plan, PlannedSource
from data_engine.schema import Sample
from data_engine.validate.checks import Mode
from mmrl.core.config import InputError
from mmrl.core.media.files import Opened, opened

NETWORK = ("hub",)  # sources that are not read to be measured
COUNTING = 1.0  # seconds for which a source is read on, to count its samples


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a step on `n` samples: seconds, media files opened and their bytes, samples stopped by reason.

    A step that needs more samples than these was not run; `refused` is its message.
    """

    step: str
    n: int
    seconds: float
    files: int
    bytes: int
    stopped: Mapping[str, int]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Length:
    """How many samples a source has; a lower bound if not `exact`. `n` is None if the source was not read."""

    source: str
    n: int | None
    exact: bool


def measure_costs(planned: Plan, n: int) -> tuple[list[Length], list[Cost]]:
    """(the length of each source, the cost of each step) on the first `n` samples of each source."""
    samples: list[Sample] = []
    lengths, costs = [], []
    modes = planned.stages[0].args.get("modes") or {}
    with tempfile.TemporaryDirectory() as scratch:
        for source in planned.sources:
            length, cost, read = _read(source, n, modes, Path(scratch))
            lengths.append(length)
            costs += [cost] if cost else []
            samples += read
        for stage in planned.stages:
            cost, samples = _run(Step(stage, ""), samples)
            costs.append(cost)
    return lengths, costs


def _read(
    source: PlannedSource, n: int, modes: Mapping[str, Mode], scratch: Path
) -> tuple[Length, Cost | None, list[Sample]]:
    if source.spec.fn in NETWORK:
        return Length(source.label, source.spec.limit, exact=False), None, []
    items = itertools.islice(_items(source, scratch), source.spec.limit)
    samples: list[Sample] = []

    def read() -> list[str]:
        """For each item why it is no sample, or nothing, until the time is up."""
        until, read = time.monotonic() + COUNTING, list[str]()
        for item in items:
            outcome = as_read(item, source, modes)
            read.append("" if isinstance(outcome, Sample) else outcome.reason)
            if isinstance(outcome, Sample) and len(samples) < n:
                samples.append(outcome)
            if len(read) >= n and time.monotonic() > until:
                break
        return read

    reasons, seconds, media = _timed(read)
    stopped = Counter(reason for reason in reasons if reason)
    cost = Cost(f"read {source.label}", len(reasons), seconds, media.files, media.bytes, stopped)
    return Length(source.label, len(reasons), exact=next(items, None) is None), cost, samples


def _items(source: PlannedSource, scratch: Path) -> Iterator[Any]:
    """The items of a source; a source that writes to a folder `out` writes to a new one in `scratch`."""
    if not isinstance(source.args.get("out"), Path):
        return source.read()
    return resolve_name(source.target)(**{**source.args, "out": Path(tempfile.mkdtemp(dir=scratch))})


def _run(step: Step, samples: Sequence[Sample]) -> tuple[Cost, list[Sample]]:
    """(the cost of a step, the samples it kept). A stream may refuse so few samples, as a mix does when no sample of a
    source is left; then all are kept."""
    is_stream = step.stage.kind == "stream"
    if not is_stream:
        list(_results(step, samples[:1]))  # so that work done once, such as imports, does not count
    try:
        results, seconds, media = _timed(lambda: list(_results(step, samples)))
    except InputError as error:
        if not is_stream:
            raise
        return Cost(step.name, 0, 0.0, 0, 0, {}, refused=str(error)), list(samples)
    kept = [outcome for outcome in results if isinstance(outcome, Sample)]
    stopped = Counter(outcome.reason for outcome in results if not isinstance(outcome, Sample))
    return Cost(step.name, len(samples), seconds, media.files, media.bytes, stopped), kept


def _results(step: Step, samples: Iterable[Sample]) -> Iterator[Outcome]:
    if step.stage.kind == "stream":
        return resolve_name(step.stage.target)(iter(samples), **step.stage.args)
    return (outcome_of([step], sample)[1] for sample in samples)


def _timed(work: Callable[[], list[Any]]) -> tuple[list[Any], float, Opened]:
    before, since = Opened(opened.files, opened.bytes), time.perf_counter()
    made = work()
    seconds = time.perf_counter() - since
    return made, seconds, Opened(opened.files - before.files, opened.bytes - before.bytes)
