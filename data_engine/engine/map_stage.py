"""Per-sample stages over one chunk: what every engine runs, in whatever process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from data_engine.cache_keys import stage_key
from data_engine.engine.chunks import Chunk, Chunks, DamagedError, Ref
from data_engine.operator import Dropped, Outcome, describe
from data_engine.recipe import Stage
from data_engine.schema import Sample, with_id
from data_engine.seeding import digest
from mmrl.core.config import InputError
from mmrl.core.media.item import Media

WORTH = 0.2  # seconds of work from which what a stage made of a chunk is kept, and not only what the last one made
CHANGED_BY = "changed_by"  # the key of meta: the operators that changed what a sample asks, shows or expects


@dataclass(frozen=True, slots=True)
class Step:
    """A stage and its key: of the operator, its version and its options."""

    stage: Stage
    key: str

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.stage.name


def step(stage: Stage, root: Path) -> Step:
    """The stage with its key."""
    return Step(stage, stage_key(stage.target, stage.args, root))


def chunk_keys(steps: Sequence[Step], start: str) -> list[str]:
    """The names of the chunks that each step makes of the chunk `start`, one after the other."""
    names = [start]
    for one in steps:
        names.append(digest(one.key, names[-1]))
    return names


def run_steps(chunks: Chunks, steps: Sequence[Step], start: str) -> Ref:
    """What the steps make of the chunk `start`, on disk. It goes on after the last step that is there already."""
    names = chunk_keys(steps, start)
    if known := chunks.ref(names[-1]):
        return known
    done, chunk = _last_whole(chunks, names)
    since = time.perf_counter()
    for number in range(done, len(steps)):
        chunk = _applied(steps[number], chunk)
        if number + 1 < len(steps) and time.perf_counter() - since > WORTH:
            chunks.write(chunk, names[number + 1])
            since = time.perf_counter()
    return chunks.write(chunk, names[-1])


def outcome_of(steps: Sequence[Step], sample: Sample) -> tuple[int, Outcome]:
    """What becomes of one sample, and the number of the step that stopped it; that of all steps if none did."""
    for number, one in enumerate(steps):
        result = _outcome(one.stage, sample)
        if not isinstance(result, Sample):
            return number, result
        sample = result
    return len(steps), sample


def _last_whole(chunks: Chunks, names: Sequence[str]) -> tuple[int, Chunk]:
    """(how many steps are done, what they made): the latest chunk that is there and whole."""
    for done in reversed(range(1, len(names))):
        try:
            return done, chunks.read(names[done])
        except DamagedError:
            continue
    return 0, Chunk(chunks.read(names[0]).kept)


def _applied(one: Step, chunk: Chunk) -> Chunk:
    after = Chunk([], list(chunk.stopped))
    for sample in chunk.kept:
        result = _outcome(one.stage, sample)
        after.kept.append(result) if isinstance(result, Sample) else after.stop(one.name, result)
    return after


def _outcome(stage: Stage, sample: Sample) -> Outcome:
    """What one operator makes of a sample."""
    try:
        said = _function(stage.target)(sample, **stage.args)
    except InputError as error:
        raise InputError(f"operator {stage.name}: {describe(sample)}: {error}") from None
    except Exception as error:
        raise RuntimeError(f"operator {stage.name} failed on {describe(sample)}: {error!r}") from error
    if stage.kind == "drops":
        return Dropped(sample, said) if said else sample
    return with_id(_recorded(stage.name, sample, said)) if isinstance(said, Sample) and said is not sample else said


@functools.cache
def _function(target: str) -> Callable[..., Any]:
    return resolve_name(target)


def _recorded(name: str, before: Sample, after: Sample) -> Sample:
    """The sample after an operator, which is noted if it changed what is asked, shown or expected."""
    if _said(before) == _said(after):
        return after
    known = after.meta.get(CHANGED_BY)
    return replace(after, meta={**after.meta, CHANGED_BY: [*(known if isinstance(known, list) else ()), name]})


def _said(sample: Sample) -> tuple[Any, ...]:
    return sample.task, sample.prompt, sample.answer, tuple(map(_shown, sample.media))


def _shown(media: Media) -> tuple[Any, ...]:
    """What of a media item decides what it shows; what probing finds out does not."""
    return media.kind, media.path, media.bytes, media.start, media.end
