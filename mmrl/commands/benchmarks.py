"""Benchmarks as the commands `index` and `leaks` name them: a dataset directory, or NAME=FILE."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.schema import Sample
from eval.benchmarks import load
from eval.benchmarks.base import BenchmarkFiles
from mmrl.core.vision import CoordinateSpace


def benchmark_name(spec: str) -> str:
    """The name of a benchmark: NAME of NAME=FILE, or the name of the directory."""
    name, equals, _ = spec.partition("=")
    return name if equals else Path(spec).resolve().name


@contextmanager
def benchmark_samples(spec: str, split: str | None) -> Iterator[tuple[str, Iterable[Sample]]]:
    """(name, samples) of a dataset directory, or of NAME=FILE: a benchmark that `mmrl eval` knows, and its rows."""
    name, equals, file = spec.partition("=")
    if not equals:
        directory = Path(spec)
        read_manifest(directory)
        yield benchmark_name(spec), read_samples(directory, split=split)
        return
    data = BenchmarkFiles(path=file, split=split)
    with tempfile.TemporaryDirectory() as media:
        yield name, load.benchmark_samples(name, data, space=CoordinateSpace.pixel, media=Path(media)).load()
