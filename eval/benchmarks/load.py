"""The samples of a published benchmark, and the numbers of its records."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from data_engine.schema import Sample, content_id, user_prompt
from eval.benchmarks import find_benchmark
from eval.benchmarks.base import EDITS, Benchmark, BenchmarkFiles, Item, Medium, Metrics
from eval.benchmarks.files import files_of, fingerprint_of, rows_of
from eval.benchmarks.metrics import mean
from eval.benchmarks.scoring import UNREAD
from eval.records import Record
from eval.sample_sets import SampleSet
from mmrl.core.config import InputError
from mmrl.core.files import write_atomic
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.vision import CoordinateSpace

logger = logging.getLogger(__name__)

NAMED = "benchmark"  # the key of a record's meta with the name of its benchmark
ITEM = "item"


def benchmark_samples(
    name: str, location: BenchmarkFiles, *, space: CoordinateSpace, media: Path, makes: bool = False
) -> SampleSet:
    """The samples of the benchmark `name` at `location`; images that are bytes are written below `media`. A run that
    `makes` the edited pictures of a benchmark is given none."""
    benchmark, files = find_benchmark(name), given_files(name, location, makes)
    split = location.split or benchmark.split or "all"
    root = Path(location.media_root) if location.media_root else files[0].parent
    version = f"{benchmark.version}-{fingerprint_of(files)}"
    return SampleSet(name, version, split, partial(_load, benchmark, files, root, media, space, location))


def given_files(name: str, location: BenchmarkFiles, makes: bool = False) -> list[Path]:
    """The files of `location` with the rows of the benchmark `name`."""
    benchmark = find_benchmark(name)
    if (benchmark.edits and not makes) != bool(location.edits):
        wants = "takes no `edits`"
        if benchmark.edits:
            wants = (
                "needs `edits`, the directory of edited pictures" if not makes else f"{wants}, engine flow makes them"
            )
        raise InputError(f"benchmark {name} {wants}; got {location.edits!r}")
    return files_of(
        location.path, location.revision, benchmark.hub, location.split or benchmark.split, benchmark.folders
    )


def metrics_of(records: Sequence[Record], max_unjudged: float = 0.1) -> Metrics | None:
    """The numbers that the benchmark of these records reports, a mean over draws.

    None for records without a benchmark, and if more than `max_unjudged` of the verdicts of its default scorer are
    missing. If those of another scorer are missing, its numbers are None. An unreadable reply of a judge is missing.
    """
    names = {record.meta.get(NAMED) for record in records}
    if len(names) != 1 or None in names:
        return None
    benchmark = find_benchmark(str(names.pop()))
    missing = {name: _missing(records, name) for name in dict.fromkeys(n for record in records for n in record.scores)}
    withheld = {name for name, share in missing.items() if share > max_unjudged}
    if missing.get(benchmark.headline, 1.0) > max_unjudged:
        return None
    draws: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        draws[record.draw].append(_without(record, withheld) if withheld else record)
    each: dict[str, list[float | None]] = defaultdict(list)
    for draw in draws.values():
        for key, number in benchmark.metrics(draw).items():
            each[key].append(number)
    numbers = {key: mean(values) for key, values in each.items()}
    return numbers | {f"{name}.unjudged": share for name, share in missing.items() if name in benchmark.judged}


def _missing(records: Sequence[Record], name: str) -> float:
    """The share of records without a verdict of a scorer, unreadable replies of judges included."""
    return fmean(record.scores.get(name) is None or record.why.get(name, "").startswith(UNREAD) for record in records)


def _without(record: Record, names: set[str]) -> Record:
    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in names}

    return replace(record, scores=kept(record.scores), kinds=kept(record.kinds), why=kept(record.why))


def _load(
    benchmark: Benchmark, files: list[Path], root: Path, media: Path, space: CoordinateSpace, location: BenchmarkFiles
) -> list[Sample]:
    items: dict[str, Item] = {}
    times: Counter[str] = Counter()  # of rows without ids: a row that occurs twice is asked twice
    rows = 0
    edits = {EDITS: str(Path(location.edits).resolve())} if location.edits else {}
    for row in (benchmark.read or rows_of)(files, benchmark.columns):
        rows += 1
        for item in benchmark.items({**row, **edits}, space):
            if item.named:
                times[item.id] += 1
                item = replace(item, id=item.id if times[item.id] == 1 else f"{item.id}#{times[item.id]}")
            if item.id in items:
                raise InputError(f"{benchmark.name} has two items with the id {item.id!r}; is a file there twice?")
            items[item.id] = item
    if not items:
        raise InputError(f"{benchmark.name}: no item in {', '.join(map(str, files))}")
    if benchmark.rows is not None and rows != benchmark.rows:
        logger.warning("%s has %d rows here, %d as published", benchmark.name, rows, benchmark.rows)
    if benchmark.size is not None and len(items) != benchmark.size:
        logger.warning("%s has %d items here, %d as published", benchmark.name, len(items), benchmark.size)
    seen: dict[Any, Media] = {}
    samples = [_sample(benchmark, item, root, media, seen) for item in _limited(items.values(), location.limit)]
    return sorted(samples, key=lambda sample: sample.id)


def _limited(items: Iterable[Item], limit: int | None) -> list[Item]:
    """The items of the `limit` groups with the smallest hashes: a random subset, independent of the order of rows."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group or item.id].append(item)
    kept = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())[:limit]
    return [item for group in kept for item in groups[group]]


def _sample(benchmark: Benchmark, item: Item, root: Path, media: Path, seen: dict[Any, Media]) -> Sample:
    readable = tuple(entry for medium in item.media if (entry := _readable(medium, root, media, seen)))
    prompt = user_prompt(item.text, [entry.kind for entry in readable])
    meta = {**item.meta, NAMED: benchmark.name, ITEM: item.id}
    sample = Sample("", benchmark.name, item.task, prompt, item.answer, readable, meta)
    return replace(sample, id=content_id(replace(sample, source=f"{benchmark.name}/{item.id}")))


def _below(root: Path, medium: Medium) -> Path:
    """The path of a medium. Rows are not trusted: a path outside the media directory is an InputError."""
    source = str(medium.source)
    path = Path(os.path.normpath(root.absolute() / source))
    if not medium.made and not path.is_relative_to(root.absolute()):
        raise InputError(f"the media path {source!r:.200} leads out of {root}; give another media_root")
    return path.resolve()


def _readable(medium: Medium, root: Path, media: Path, seen: dict[Any, Media]) -> Media | None:
    """The media item; None for an unreadable one that a model made."""
    try:
        return stored_media(medium, root, media, seen)
    except InputError as error:
        if not medium.made:
            raise
        logger.warning("left out, and scored as missing: %s", error)
        return None


def stored_media(medium: Medium, root: Path, media: Path, seen: dict[Any, Media]) -> Media:
    """The probed media item; InputError if it does not decode."""
    key = hashlib.sha256(medium.source).hexdigest() if isinstance(medium.source, bytes) else medium.source
    if key not in seen:
        if isinstance(medium.source, bytes):
            path = (media / key).resolve()
            if not path.is_file():
                write_atomic(path, medium.source)
        else:
            path = _below(root, medium)
        seen[key] = probe(Media(medium.kind, path=str(path)), medium.kind)
    return replace(seen[key], start=medium.start, end=medium.end)
