"""Run a recipe: samples flow from sources through operators into a dataset directory, and none is lost uncounted.

Between stages samples lie on disk in chunks (`data_engine.engine.chunks`), named by what they were made from: a run
that was killed is resumed where it stopped, and only a few chunks are in memory at a time.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_engine.dataset.shards import DatasetWriter, read_manifest
from data_engine.engine.chunks import Chunks, DamagedError, Ref, Stop
from data_engine.engine.map_stage import Step, keyed
from data_engine.engine.mixture import requested
from data_engine.engine.progress import Progress, Silent
from data_engine.engine.provenance import origin_of
from data_engine.engine.source_stage import run_source
from data_engine.engine.stream_stage import AccountingError, run_stream
from data_engine.engine.workers import Crew
from data_engine.recipe import Engine, Plan, PlannedSource, Recipe, plan
from data_engine.validate.checks import Mode
from mmrl.core.config import InputError
from mmrl.core.files import beside, room_for

logger = logging.getLogger(__name__)

__all__ = ["AccountingError", "SampleCounts", "run"]

Mapper = Callable[[Sequence[Step], Iterable[Ref]], Iterator[Ref]]


def stages_folder(recipe: Recipe, out: Path) -> Path:
    """Where the results of stages are kept, for a build that resumes and for the next one."""
    return recipe.cache or beside(out, "stages")


@dataclass
class SampleCounts:
    """How many samples were read, kept, dropped and quarantined; `read = kept + dropped + quarantined`."""

    read: Counter[str] = field(default_factory=Counter)  # by source
    kept: Counter[str] = field(default_factory=Counter)  # by source
    dropped: Counter[str] = field(default_factory=Counter)  # by "operator: reason"
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason

    def as_dict(self) -> dict[str, dict[str, int]]:
        """The counts as plain dicts, sorted by key."""
        return {name: dict(sorted(counter.items())) for name, counter in vars(self).items()}


def run(
    recipe: Recipe,
    *,
    out: Path | None = None,
    workers: int = 0,
    engine: Engine = "local",
    progress: Progress | None = None,
) -> SampleCounts:
    """Build the dataset of `recipe` at `out` (default: its output); what was there is replaced when all is written.

    The bytes do not depend on the engine or on the number of workers (processes for the per-sample stages). With 0
    workers everything runs in this process, and a decoder that crashes or hangs ends the run.
    """
    out = out or recipe.output
    if out is None:
        raise InputError("the recipe names no output; set output: DIR or give --out DIR")
    planned = plan(recipe, engine=engine)
    folder = stages_folder(recipe, out)
    try:
        with room_for(out):
            counts = _run(recipe, planned, out, Chunks(folder), workers, engine, progress or Silent())
    except DamagedError as error:
        raise InputError(f"stages kept in {folder} are damaged ({error}); remove that folder and run again") from None
    if recipe.cache is None:
        shutil.rmtree(folder, ignore_errors=True)
    return counts


def _run(
    recipe: Recipe, planned: Plan, out: Path, chunks: Chunks, workers: int, engine: Engine, progress: Progress
) -> SampleCounts:
    steps = [keyed(stage, recipe.root.absolute()) for stage in planned.stages]
    made_from = recipe.fingerprint()
    with DatasetWriter(
        out, name=recipe.name, recipe=made_from, embed_media=recipe.embed, threads=max(workers, 1)
    ) as writer:
        flow = _Flow(chunks, progress)
        crew = _crew(chunks, workers, engine)
        try:
            refs = list(flow.run(planned.sources, steps, crew.mapped))
        finally:
            crew.close()
        for stop in flow.stops():
            if stop.row is not None:
                writer.quarantine_row(stop.row)
            elif stop.sample is not None:
                writer.repeat(stop.stage, stop.like, stop.sample)
            if stop.stats is not None:
                writer.drop(f"{stop.stage}: {stop.reason}", stop.stats)
        mixes = requested(planned.stages)
        with progress.stage("write", sum(ref.kept for ref in refs)) as advance:
            for ref in refs:
                for sample in writer.add_all(chunks.read(ref.key).kept):
                    flow.counts.kept[sample.source] += 1
                    for mix in mixes:
                        mix.add(sample)
                advance(ref.kept)
        writer.account(flow.counts.read.total(), flow.counts.dropped)  # the writer checks that the numbers add up
        origin = origin_of(recipe, planned.sources, planned.stages, chunks)
        writer.explain(origin=origin, mix=[mix.as_dict() for mix in mixes])
    flow.counts.quarantined = Counter(read_manifest(out)["counts"]["quarantined"])
    return flow.counts


def _crew(chunks: Chunks, workers: int, engine: Engine) -> Crew:
    if engine == "local":
        return Crew(chunks, workers)
    from data_engine.engine.on_ray import RayCrew

    return RayCrew(chunks, workers)


class _Flow:
    """Runs the stages over chunks and counts samples; consecutive per-sample stages run as one."""

    def __init__(self, chunks: Chunks, progress: Progress) -> None:
        self.counts = SampleCounts()
        self._chunks, self._progress = chunks, progress
        self._stopping: list[list[Ref]] = []  # by stage, so that the order does not depend on who is faster

    def run(self, sources: Iterable[PlannedSource], steps: Sequence[Step], mapped: Mapper) -> Iterator[Ref]:
        """The chunks after the last stage."""
        refs = self._read(sources, steps[0].stage.args.get("modes") or {})
        total = None
        for is_stream, group in itertools.groupby(steps, key=lambda step: step.stage.kind == "stream"):
            if is_stream:
                for step in group:
                    given = list(refs)
                    total = sum(ref.kept for ref in given)
                    refs = self._counted(step.name, run_stream(step, given, self._chunks), total)
            else:
                together = list(group)
                name = ", ".join(step.name for step in together)
                refs = self._counted(name, mapped(together, refs), total)
        return refs

    def stops(self) -> Iterator[Stop]:
        """All stopped samples, stage by stage."""
        for refs in self._stopping:
            for ref in refs:
                if ref.dropped or ref.quarantined:
                    yield from self._chunks.stops(ref.key)

    def _read(self, sources: Iterable[PlannedSource], modes: Mapping[str, Mode]) -> Iterator[Ref]:
        stopping = self._new()
        for source in sources:
            with self._progress.stage(f"read {source.label}", source.spec.limit) as advance:
                for ref in run_source(source, modes, self._chunks):
                    count = _taken(ref)
                    self.counts.read[source.label] += count
                    self.counts.dropped.update(ref.dropped)
                    stopping.append(ref)
                    advance(count)
                    yield ref
            if not self.counts.read[source.label]:
                logger.warning("the source %s has no rows", source.label)

    def _counted(self, name: str, refs: Iterable[Ref], total: int | None) -> Iterator[Ref]:
        stopping = self._new()
        with self._progress.stage(name, total) as advance:
            for ref in refs:
                self.counts.dropped.update(ref.dropped)
                stopping.append(ref)
                advance(_taken(ref))
                yield ref

    def _new(self) -> list[Ref]:
        self._stopping.append([])
        return self._stopping[-1]


def _taken(ref: Ref) -> int:
    """How many samples a stage took to make the chunk."""
    return ref.kept + sum(ref.dropped.values()) + sum(ref.quarantined.values())
