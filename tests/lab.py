"""A source and operators as users write them, in a module that worker processes can import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from data_engine.ops.base import drops, each, stream
from data_engine.schema import Sample, user_prompt


def numbers(*, n: int) -> Iterator[Sample]:
    """Text-only samples that ask 0 to n - 1."""
    for number in range(n):
        yield Sample("", "numbers", "number", user_prompt(str(number)), {"number": float(number)})


def asked(sample: Sample) -> str:
    """The text of a sample."""
    return sample.prompt[0]["content"][0]["text"]


@drops
def is_odd(sample: Sample) -> str | None:
    """Drop every other question."""
    return "odd" if int(asked(sample)) % 2 else None


@each
def louder(sample: Sample, *, word: str) -> Sample:
    """Ask again, louder."""
    return replace(sample, prompt=user_prompt(f"{asked(sample)} {word}"))


@stream
def forgetful(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Lose every sample but the first."""
    yield from list(samples)[:1]


@stream
def impatient(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Take one sample and leave the others."""
    yield next(samples)


@each
def deadly(sample: Sample) -> Sample:
    """Kill the process on the sample 40, as a decoder might."""
    if asked(sample) == "40":
        os._exit(1)
    return sample


@each
def faulty(sample: Sample) -> Sample:
    """An operator with a mistake in it."""
    return sample.nothing  # pyright: ignore[reportAttributeAccessIssue]
