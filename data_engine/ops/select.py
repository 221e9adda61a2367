"""Operators that choose how many samples of what, and in which order. All random choices are made by hashing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import PositiveInt

from data_engine.operator import Dropped, Spool, Weights, stream, traits
from data_engine.schema import Sample
from data_engine.seeding import digest
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from rewards.tasks.table import task_type

Property = Literal["task", "source", "split", "answer", "difficulty"]

PROPERTIES: dict[str, Callable[[Sample], Any]] = {
    "task": lambda sample: sample.task,
    "source": lambda sample: sample.source,
    "split": lambda sample: sample.meta.get("split"),
    "answer": lambda sample: _answer(sample),
    "difficulty": lambda sample: _level(sample),
}


@traits(counts=True)
@stream
def sample(samples: Iterator[Sample], *, n: PositiveInt, seed: int = 0) -> Iterator[Sample | Dropped]:
    """Keep `n` random samples, in their order."""
    spool, draws = _spooled(samples, lambda item: digest("sample", seed, item.id))
    chosen = set(_lowest(draws, n))
    for index, item in enumerate(spool):
        yield item if index in chosen else Dropped(item, "not_sampled")


@traits(counts=True)
@stream
def balance(
    samples: Iterator[Sample], *, by: list[Property], cap: PositiveInt, seed: int = 0
) -> Iterator[Sample | Dropped]:
    """Keep at most `cap` samples of each combination of the properties in `by`, in their order."""
    spool, keys = _spooled(samples, lambda item: (dumps([PROPERTIES[name](item) for name in by]), item.id))
    groups: dict[str, list[int]] = defaultdict(list)
    for index, (group, _) in enumerate(keys):
        groups[group].append(index)
    draws = [digest("balance", seed, sample_id) for _, sample_id in keys]
    chosen = {index for group in groups.values() for index in _lowest(draws, cap, group)}
    for index, item in enumerate(spool):
        yield item if index in chosen else Dropped(item, "over_cap")


@traits(counts=True)
@stream
def cap_media(samples: Iterator[Sample], *, n: PositiveInt, seed: int = 0) -> Iterator[Sample | Dropped]:
    """Keep at most `n` samples about any one image or video, in their order."""
    spool, keys = _spooled(samples, lambda item: (digest("cap_media", seed, item.id), [m.sha256 for m in item.media]))
    used, chosen = Counter[str | None](), set[int]()
    for index in _lowest([draw for draw, _ in keys]):
        hashes = set(keys[index][1])
        if all(used[sha256] < n for sha256 in hashes):
            used.update(hashes)
            chosen.add(index)
    for index, item in enumerate(spool):
        yield item if index in chosen else Dropped(item, "media_used_up")


@traits(counts=True)
@stream
def mix(samples: Iterator[Sample], *, weights: Weights, seed: int = 0) -> Iterator[Sample | Dropped]:
    """Keep as many samples as the sources allow in the proportion of `weights` (source -> weight), in random order."""
    spool, keys = _spooled(samples, lambda item: (item.source, digest("mix", seed, item.id)))
    counts = Counter(source for source, _ in keys)
    wanted = {source: weight for source, weight in weights.items() if weight > 0}
    if missing := sorted(wanted.keys() - counts.keys()):
        raise InputError(f"no sample of {', '.join(missing)} is left to mix; see the quarantine, or give it weight 0")
    unit = min(counts[source] / weight for source, weight in wanted.items())
    quota = {source: math.floor(unit * weight + 1e-9) for source, weight in wanted.items()}
    draws = [draw for _, draw in keys]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, (source, _) in enumerate(keys):
        groups[source].append(index)
    chosen = {index for source, group in groups.items() for index in _lowest(draws, quota.get(source, 0), group)}
    for index, item in zip(order := _lowest(draws), spool.read(order), strict=True):
        yield item if index in chosen else Dropped(item, f"over_share_of_{item.source}")


@stream
def shuffle(samples: Iterator[Sample], *, seed: int = 0) -> Iterator[Sample]:
    """Put all samples into a random order."""
    spool, draws = _spooled(samples, lambda item: digest("shuffle", seed, item.id))
    yield from spool.read(_lowest(draws))


def _spooled(samples: Iterable[Sample], key: Callable[[Sample], Any]) -> tuple[Spool, list[Any]]:
    """The samples on disk, and the key of each."""
    spool, keys = Spool(), []
    for item in samples:
        spool.add(item)
        keys.append(key(item))
    return spool, keys


def _lowest(draws: list[str], n: int | None = None, among: Iterable[int] | None = None) -> list[int]:
    """The indices with the `n` lowest draws, lowest first."""
    return sorted(range(len(draws)) if among is None else among, key=lambda index: (draws[index], index))[:n]


def _answer(sample: Sample) -> str:
    """The answer in plain words: the text of the chosen option, yes or no, a number, the only text; else JSON."""
    kind = task_type(sample.task)
    if kind.thought:
        return kind.thought(sample.answer)
    values = [sample.answer.get(key.name) for key in kind.keys]
    value = values[0] if len(values) == 1 else values
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    return value if isinstance(value, str) else dumps(value)


def _level(sample: Sample) -> str | None:
    """Hard, medium or easy, as the operator `difficulty` noted it; None if a source used that key otherwise."""
    noted = sample.meta.get("difficulty")
    level = noted.get("level") if isinstance(noted, Mapping) else None
    return level if level in ("hard", "medium", "easy") else None
