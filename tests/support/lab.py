"""A source and operators as users write them, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from data_engine.operator import drops, each, only_on, stream
from data_engine.schema import Sample, user_prompt
from data_engine.seeding import digest
from rewards import Rollout


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


@drops
def is_third(sample: Sample) -> str | None:
    """Drop every third question."""
    return "third" if int(asked(sample)) % 3 == 0 else None


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
def leaves(sample: Sample) -> Sample:
    """End the program, as scripts do that were made operators."""
    raise SystemExit(3)


@stream
def leaves_all(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The same, of many samples."""
    yield next(samples)
    raise SystemExit(3)


def leaves_at_once() -> Iterator[Sample]:
    """The same, of a source."""
    yield from numbers(n=1)
    raise SystemExit(3)


@each
def deadly(sample: Sample) -> Sample:
    """Kill the process on the sample 40, as a decoder might."""
    if asked(sample) == "40":
        os._exit(1)
    return sample


@each
def ended(sample: Sample) -> Sample:
    """End the process on the sample 40 as the system does when memory is short."""
    if asked(sample) == "40":
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


@each
def faulty(sample: Sample) -> Sample:
    """An operator with a mistake in it."""
    return sample.nothing  # pyright: ignore[reportAttributeAccessIssue]


@each
def noted(sample: Sample, *, seconds: float = 0.0) -> Sample:
    """Write down that the sample was looked at, which takes a while.

    Where to is no option: a file that an option names would count by its content.
    """
    with open(os.environ["NOTED"], "a") as file:
        file.write(f"{sample.id}\n")
    time.sleep(seconds)
    return sample


@each
def padded(sample: Sample, *, chars: int) -> Sample:
    """Ask at length, in a way that does not pack well."""
    noise = "".join(digest(sample.id, place) for place in range(chars // 32))
    return replace(sample, meta={**sample.meta, "noise": noise})


@each
def louder_numbers(sample: Sample, *, word: str) -> Sample:
    """Ask the numbers again, louder."""
    return louder(sample, word=word) if sample.task == "number" else sample


@each
def deadly_number(sample: Sample) -> Sample:
    """`deadly`, among samples of other kinds."""
    return deadly(sample) if sample.task == "number" else sample


@only_on("local")
@each
def homely(sample: Sample) -> Sample:
    """An operator that does not leave this machine."""
    return sample


@each
def generous(sample: Sample) -> Iterator[Sample]:
    """A generator where a function is wanted."""
    yield sample


def rank(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward that says which process scores."""
    return [float(os.environ.get("RANK", 0))] * len(rollouts)
