"""What is evaluated and how it is asked: a benchmark's samples, the decoding, and the draws they make together."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.schema import Sample
from mmrl.core.config import Config
from mmrl.core.vision import CoordinateSpace, Size

logger = logging.getLogger(__name__)


class Data(Config):
    """A split of a dataset directory; `limit` caps the samples of each task."""

    path: str
    split: str = "test"
    limit: PositiveInt | None = None


class BenchmarkData(Config):
    """Where the rows of a named benchmark are: `path`, a file or directory in its official layout, or `revision`, a
    commit of its hub dataset that is in the local cache.

    `limit` caps the questions, `split` is another than the usual one, and relative media paths start at `media_root`,
    by default beside the file. `edits` is the directory of edited pictures, where those are what is scored.
    `args` are options of scorers by their names, such as `judge_dcscore: {trials: 3}`.
    """

    path: str | None = None
    revision: str | None = None
    split: str | None = None
    limit: PositiveInt | None = None
    media_root: str | None = None
    edits: str | None = None
    args: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.revision is None):
            raise ValueError(f"path {self.path!r} with revision {self.revision!r}; give one of the two")
        return self


class NamedData(Data):
    """The rows of the benchmark `name`, asked in `space`; pictures that are bytes in its files are kept in `media`."""

    path: str = ""
    name: str
    given: BenchmarkData
    space: CoordinateSpace
    media: Path


class Sampling(Config):
    """How answers are drawn: `samples` draws per prompt. Greedy decoding reads neither temperature, top_p nor seed."""

    do_sample: bool = False
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 512
    samples: PositiveInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _greedy_draws_are_equal(self) -> Self:
        if self.samples > 1 and not self.do_sample:
            raise ValueError(f"samples {self.samples} without do_sample would be equal draws; set do_sample: true")
        return self

    def protocol(self) -> dict[str, Any]:
        """What decides a single draw."""
        shared = {"max_new_tokens": self.max_new_tokens}
        if not self.do_sample:
            return {"decoding": "greedy", **shared}
        return {
            "decoding": "sampled",
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            **shared,
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named set of samples; another prompt, selection rule or revision of the data is another version."""

    name: str
    version: str
    split: str
    load: Callable[[], list[Sample]]


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer to be generated: the `number`-th draw for a sample."""

    sample: Sample
    number: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model said to one draw: the text, its number of tokens, whether the token limit ended it, and the
    (width, height) of each media item as the model sees it. `spent`: what guided decoding cost to find it."""

    response: str
    tokens: int
    truncated: bool
    seen_size: tuple[Size, ...]
    spent: Mapping[str, float] = field(default_factory=dict)


class Generator(Protocol):
    """What answers draws; `eval.answer.local.LocalGenerator` is one."""

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, generated as one batch."""
        ...

    def cost(self, sample: Sample) -> int:
        """About how long the prompt is: batches are sorted by it."""
        ...


def dataset_benchmark(data: Data) -> Benchmark:
    """The benchmark that a split of a dataset directory makes; its version is the hash of the split's shards.

    Of `NamedData`, the registered benchmark.
    """
    if isinstance(data, NamedData):
        from eval.benchmarks.load import named_benchmark

        return named_benchmark(data.name, data.given, space=data.space, media=data.media)
    directory = Path(data.path).resolve()
    shards = [shard["sha256"] for shard in read_manifest(directory)["shards"] if shard["split"] == data.split]
    version = hashlib.sha256("".join(shards).encode()).hexdigest()[:16]
    load = partial(read_samples, directory, split=data.split)
    return Benchmark(directory.name, version, data.split, lambda: selected(load(), data.limit))


def check_files(data: Data) -> None:
    """InputError where the files of a named benchmark are not there."""
    if isinstance(data, NamedData):
        from eval.benchmarks.load import given_files

        given_files(data.name, data.given)


def selected(samples: Iterable[Sample], limit: int | None) -> list[Sample]:
    """Up to `limit` samples of each task, those with the smallest ids, sorted by id.

    Ids are content hashes: the selection is a fixed random one that does not depend on the order of rows, and a smaller
    limit selects a subset.
    """
    by_task: dict[str, dict[str, Sample]] = defaultdict(dict)
    repeated = 0
    for sample in samples:
        repeated += sample.id in by_task[sample.task]
        by_task[sample.task][sample.id] = sample
    if repeated:
        logger.warning("%d samples repeat the id of another and are evaluated once", repeated)
    chosen = [sample for task in by_task.values() for sample in sorted(task.values(), key=lambda s: s.id)[:limit]]
    return sorted(chosen, key=lambda sample: sample.id)


def batches(draws: Sequence[Draw], size: int, cost: Callable[[Sample], int]) -> list[list[Draw]]:
    """The draws in batches of prompts of like cost, the costliest first, so that a run that will not fit fails at once.

    The plan depends on nothing but the draws: a resumed run meets the same batches.
    """
    costs = {draw.sample.id: cost(draw.sample) for draw in draws}
    ordered = sorted(draws, key=lambda draw: (-costs[draw.sample.id], draw.sample.id, draw.number))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def without_media(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`prompt` with its text parts alone."""
    return [
        dict(message)
        if isinstance(message["content"], str)
        else {**message, "content": [part for part in message["content"] if part["type"] == "text"]}
        for message in prompt
    ]
