"""Per-sample stages over one chunk: the function that every engine runs, in any process."""

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
from data_engine.operator import Dropped, Outcome, describe, without_exit
from data_engine.recipe import Stage
from data_engine.schema import Sample, with_id
from data_engine.seeding import digest
from mmrl.core.config import InputError, RunError
from mmrl.core.media.item import Media

WORTH = 0.2  # seconds of work after which the result of a stage is written, and not only that of the last stage
CHANGED_BY = "changed_by"  # the key of meta: the operators that changed what a sample asks, shows or expects


@dataclass(frozen=True, slots=True)
class Step:
    """A stage and its cache key, a hash of the operator, its version and its options."""

    stage: Stage
    key: str

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.stage.name


def keyed(stage: Stage, root: Path) -> Step:
    """The stage with its cache key."""
    return Step(stage, stage_key(stage.target, stage.args, root))


def chunk_keys(steps: Sequence[Step], start: str) -> list[str]:
    """The names of the chunks after each step, beginning with the chunk `start`."""
    names = [start]
    for step in steps:
        names.append(digest(step.key, names[-1]))
    return names


def run_steps(chunks: Chunks, steps: Sequence[Step], start: str) -> Ref:
    """Run the steps on the chunk `start` and write the result. Steps whose result is on disk already are skipped."""
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
    """(the index of the step that stopped the sample, the outcome); the index is `len(steps)` if none stopped it."""
    for number, step in enumerate(steps):
        result = _outcome(step.stage, sample)
        if not isinstance(result, Sample):
            return number, result
        sample = result
    return len(steps), sample


def _last_whole(chunks: Chunks, names: Sequence[str]) -> tuple[int, Chunk]:
    """(number of steps done, their result): the last chunk on disk that is whole."""
    for done in reversed(range(1, len(names))):
        try:
            return done, chunks.read(names[done])
        except DamagedError:
            continue
    return 0, Chunk(chunks.read(names[0]).kept)


def _applied(step: Step, chunk: Chunk) -> Chunk:
    after = Chunk([], list(chunk.stopped))
    for sample in chunk.kept:
        result = _outcome(step.stage, sample)
        after.kept.append(result) if isinstance(result, Sample) else after.stop(step.name, result)
    return after


def _outcome(stage: Stage, sample: Sample) -> Outcome:
    """The outcome of one operator on a sample."""
    try:
        with without_exit("it"):
            result = _function(stage.target)(sample, **stage.args)
    except (InputError, RunError) as error:
        kind = InputError if isinstance(error, InputError) else RunError
        raise kind(f"operator {stage.name}: {describe(sample)}: {error}") from None
    except Exception as error:
        raise RunError(f"operator {stage.name} failed on {describe(sample)}: {error!r}") from error
    if stage.kind == "drops":
        return Dropped(sample, result) if result else sample
    changed = isinstance(result, Sample) and result is not sample
    return with_id(_recorded(stage.name, sample, result)) if changed else result


@functools.cache
def _function(target: str) -> Callable[..., Any]:
    return resolve_name(target)


def _recorded(name: str, before: Sample, after: Sample) -> Sample:
    """`after`, with the operator's name in its meta if it changed what the sample asks, shows or expects."""
    if _question(before) == _question(after):
        return after
    known = after.meta.get(CHANGED_BY)
    return replace(after, meta={**after.meta, CHANGED_BY: [*(known if isinstance(known, list) else ()), name]})


def _question(sample: Sample) -> tuple[Any, ...]:
    return sample.task, sample.prompt, sample.answer, tuple(map(_shown, sample.media))


def _shown(media: Media) -> tuple[Any, ...]:
    """The fields of a media item that decide what it shows; measured sizes do not."""
    return media.kind, media.path, media.bytes, media.start, media.end
