"""Run a recipe: samples flow from sources through operators into a dataset directory, and none is lost uncounted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name

from data_engine.ops.base import Dropped, Outcome, Quarantined
from data_engine.recipe import PlannedSource, Recipe, Stage, plan
from data_engine.schema import Sample
from data_engine.shards import DatasetWriter, read_manifest
from data_engine.validate import Mode, settled
from data_engine.workers import mapped
from mmrl.config import InputError


class AccountingError(RuntimeError):
    """Samples were lost or invented on the way."""


@dataclass
class Counts:
    """What became of the samples; `read = kept + dropped + quarantined`."""

    read: Counter[str] = field(default_factory=Counter)  # by source
    kept: Counter[str] = field(default_factory=Counter)  # by source
    dropped: Counter[str] = field(default_factory=Counter)  # by "operator: reason"
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason

    def as_dict(self) -> dict[str, dict[str, int]]:
        """The counts as plain dicts, sorted by key."""
        return {name: dict(sorted(counter.items())) for name, counter in vars(self).items()}


def run(recipe: Recipe, *, out: Path | None = None, workers: int = 1) -> Counts:
    """Build the dataset of `recipe` at `out` (default: its output); what was there is replaced when all is written."""
    out = out or recipe.output
    if out is None:
        raise InputError("the recipe names no output; set output: DIR or give --out DIR")
    planned = plan(recipe)
    counts = Counts()
    with DatasetWriter(out, name=recipe.name, recipe=recipe.fingerprint()) as writer:
        flow = _Flow(counts, writer.quarantine)
        samples = flow.read(planned.sources, planned.stages[0].args.get("modes") or {})
        for is_stream, group in itertools.groupby(planned.stages, key=lambda stage: stage.kind == "stream"):
            stages = list(group)
            samples = flow.streamed(samples, stages) if is_stream else flow.mapped(samples, stages, workers)
        for sample in samples:
            counts.kept[sample.source] += writer.add(sample)
        writer.account(counts.read.total(), counts.dropped)  # the writer checks that the numbers add up
    counts.quarantined.update(read_manifest(out)["counts"]["quarantined"])
    return counts


class Tally(Iterator[Sample]):
    """An iterator that knows how many samples were taken from it."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self.samples, self.count = samples, 0

    def __next__(self) -> Sample:
        sample = next(self.samples)
        self.count += 1
        return sample


class _Flow:
    """Sample iterators that count, and send what is broken to the quarantine."""

    def __init__(self, counts: Counts, to_quarantine: Callable[[Quarantined], None]) -> None:
        self.counts, self.to_quarantine = counts, to_quarantine

    def read(self, sources: Iterable[PlannedSource], modes: Mapping[str, Mode]) -> Iterator[Sample]:
        """The samples of all sources, one source after the other; the modes of `validate` are of their rows, too."""
        for source in sources:
            for item in itertools.islice(source.read(), source.spec.limit):
                self.counts.read[source.label] += 1
                item = replace(item, source=source.label)
                yield from self._passed(source.label, item if isinstance(item, Sample) else settled(item, modes))

    def mapped(self, samples: Iterator[Sample], stages: Sequence[Stage], workers: int) -> Iterator[Sample]:
        """The samples that pass per-sample stages."""
        for name, outcome in mapped(samples, stages, workers):
            yield from self._passed(name, outcome)

    def streamed(self, samples: Iterator[Sample], stages: Sequence[Stage]) -> Iterator[Sample]:
        """The samples that pass stages over the whole stream."""
        for stage in stages:
            samples = self._one_stream(samples, stage)
        return samples

    def _one_stream(self, samples: Iterator[Sample], stage: Stage) -> Iterator[Sample]:
        taken = Tally(samples)
        given = 0
        for outcome in resolve_name(stage.target)(taken, **stage.args):
            given += 1
            yield from self._passed(stage.name, outcome)
        left = next(samples, None) is not None
        if left or given != taken.count:
            took = f"took {taken.count} samples{' and left some' if left else ''}"
            rule = "it must take all, and give each of them or Dropped(sample, reason)"
            raise AccountingError(f"operator {stage.name} {took}, and gave {given}; {rule}")

    def _passed(self, name: str, outcome: Outcome) -> Iterator[Sample]:
        if isinstance(outcome, Sample):
            yield outcome
        elif isinstance(outcome, Dropped):
            self.counts.dropped[f"{name}: {outcome.reason}"] += 1
        else:
            self.to_quarantine(outcome)
