"""A named benchmark as samples to run, and the numbers of its records."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from data_engine.media import probe
from data_engine.schema import Media, Sample, content_id, user_prompt
from eval.benchmark import Benchmark, BenchmarkData
from eval.benchmarks import named
from eval.benchmarks.base import Item, Medium, Metrics, Task
from eval.benchmarks.files import files_of, fingerprint_of, rows_of
from eval.records import Record, write_atomic
from mmrl.config import InputError
from mmrl.vision import CoordinateSpace

logger = logging.getLogger(__name__)

NAMED = "benchmark"  # the key of a record's meta under which its benchmark stands
ITEM = "item"


def named_benchmark(name: str, data: BenchmarkData, *, space: CoordinateSpace, media: Path) -> Benchmark:
    """The registered benchmark `name` on the files of `data`; images that are bytes are written below `media`."""
    task = named(name)
    split = data.split or task.split
    files = files_of(data.path, data.revision, task.hub, split)
    root = Path(data.media_root) if data.media_root else files[0].parent
    version = f"{task.version}-{fingerprint_of(files)}"
    return Benchmark(name, version, split, partial(_load, task, files, root, media, space, data.limit))


def metrics_of(records: Sequence[Record], max_unjudged: float = 0.1) -> Metrics | None:
    """The numbers that the benchmark of these records reports, a mean over draws.

    None for records of no benchmark, and where more than `max_unjudged` of the verdicts are missing.
    """
    missing = sum(record.scores.get("accuracy") is None for record in records)
    if not records or missing > max_unjudged * len(records):
        return None
    names = {record.meta.get(NAMED) for record in records}
    if len(names) != 1 or None in names:
        return None
    task = named(str(names.pop()))
    draws: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        draws[record.draw].append(record)
    each = [task.metrics(draw) for draw in draws.values()]
    return {
        key: _mean([one[key] for one in each if key in one]) for key in dict.fromkeys(k for one in each for k in one)
    }


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _load(
    task: Task, files: list[Path], root: Path, media: Path, space: CoordinateSpace, limit: int | None
) -> list[Sample]:
    items: dict[str, Item] = {}
    rows = 0
    for rows, row in enumerate(rows_of(files, task.columns), 1):  # noqa: B007 - the count is used below
        for item in task.items(row, space):
            if item.id in items:
                raise InputError(f"{task.name} has two items with the id {item.id!r}; is a file there twice?")
            items[item.id] = item
    if not items:
        raise InputError(f"{task.name}: no item in {', '.join(map(str, files))}")
    if task.rows is not None and rows != task.rows:
        logger.warning("%s has %d rows here, %d as published", task.name, rows, task.rows)
    seen: dict[Any, Media] = {}
    samples = [_sample(task, item, root, media, seen) for item in _limited(items.values(), limit)]
    return sorted(samples, key=lambda sample: sample.id)


def _limited(items: Iterable[Item], limit: int | None) -> list[Item]:
    """The items of `limit` groups, those whose hash is smallest: a random subset that order does not change."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group or item.id].append(item)
    kept = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())[:limit]
    return [item for group in kept for item in groups[group]]


def _sample(task: Task, item: Item, root: Path, media: Path, seen: dict[Any, Media]) -> Sample:
    shown = tuple(stored_media(medium, root, media, seen) for medium in item.media)
    prompt = user_prompt(item.text, [one.kind for one in shown])
    meta = {**item.meta, NAMED: task.name, ITEM: item.id}
    sample = Sample("", task.name, item.task, prompt, item.answer, shown, meta)
    return replace(sample, id=content_id(replace(sample, source=f"{task.name}/{item.id}")))


def stored_media(medium: Medium, root: Path, media: Path, seen: dict[Any, Media]) -> Media:
    """The probed media item; one that does not decode is an error and never left out."""
    key = hashlib.sha256(medium.source).hexdigest() if isinstance(medium.source, bytes) else medium.source
    if key not in seen:
        if isinstance(medium.source, bytes):
            path = (media / key).resolve()
            if not path.is_file():
                media.mkdir(parents=True, exist_ok=True)
                write_atomic(path, medium.source)
        else:
            path = (root / medium.source).resolve()
        seen[key] = probe(Media(medium.kind, path=str(path)), medium.kind)
    return replace(seen[key], start=medium.start, end=medium.end)
