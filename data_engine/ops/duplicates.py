"""Operators that find what was asked before."""

from __future__ import annotations

from collections.abc import Iterator

from data_engine.draw import digest
from data_engine.ops.base import Dropped, stream
from data_engine.schema import Sample, dumps


@stream
def exact_duplicates(samples: Iterator[Sample]) -> Iterator[Sample | Dropped]:
    """Keep the first of the samples that ask the same of the same media.

    A later one with another answer is counted apart: its source contradicts itself or another one.
    """
    answers: dict[str, str] = {}
    for sample in samples:
        shown = [[media.sha256, media.start, media.end] for media in sample.media]
        question, answer = digest(dumps([shown, sample.prompt])), digest(dumps(sample.answer))
        if question not in answers:
            answers[question] = answer
            yield sample
        else:
            yield Dropped(sample, "duplicate" if answers[question] == answer else "duplicate_with_another_answer")
