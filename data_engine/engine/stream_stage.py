"""Stages over the whole stream of samples, in the main process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pkgutil import resolve_name

from data_engine.engine.chunks import BYTES, ROWS, Chunk, Chunks, Ref
from data_engine.engine.map_stage import Step
from data_engine.operator import Outcome, without_exit
from data_engine.schema import Sample
from data_engine.seeding import digest

STOPS = 4096  # stopped samples after which a chunk is written, to bound memory


class AccountingError(RuntimeError):
    """A stage returned more or fewer outcomes than it took samples."""


class Tally(Iterator[Sample]):
    """An iterator that counts the samples taken from it."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self.samples, self.count = samples, 0

    def __next__(self) -> Sample:
        sample = next(self.samples)
        self.count += 1
        return sample


def run_stream(step: Step, refs: Sequence[Ref], chunks: Chunks) -> Iterator[Ref]:
    """The chunks of a stage over the samples of `refs`; an interrupted stage starts again."""
    key = digest(step.key, *(ref.key for ref in refs))
    known = chunks.finished(key)
    if known is not None:
        yield from known
        return
    taken = Tally(sample for ref in refs for sample in chunks.read(ref.key).kept)
    made: list[Ref] = []
    for chunk in _chunks(step, taken):
        made.append(chunks.write(chunk, digest(key, len(made))))
        yield made[-1]
    chunks.finish(key, made)


def _chunks(step: Step, taken: Tally) -> Iterator[Chunk]:
    chunk, media_bytes, given = Chunk(), 0, 0
    for outcome in _outcomes(step, taken):
        given += 1
        if isinstance(outcome, Sample):
            chunk.kept.append(outcome)
            media_bytes += sum(len(media.bytes or b"") for media in outcome.media)
        else:
            chunk.stop(step.name, outcome)
        if len(chunk.kept) >= ROWS or media_bytes > BYTES or len(chunk.stopped) >= STOPS:
            yield chunk
            chunk, media_bytes = Chunk(), 0
    left = next(taken, None) is not None
    if left or given != taken.count:
        took = f"took {taken.count} samples{' and left some' if left else ''}"
        rule = "it must take all samples, and yield one outcome for each"
        raise AccountingError(f"operator {step.name} {took}, and gave {given}; {rule}")
    yield chunk


def _outcomes(step: Step, taken: Tally) -> Iterator[Outcome]:
    with without_exit(f"operator {step.name}"):
        yield from resolve_name(step.stage.target)(taken, **step.stage.args)
