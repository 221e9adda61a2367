"""Fingerprint files of benchmarks, and what of them is found in other samples.

A file holds hashes, never pictures or questions: it can be given away where the benchmark cannot.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.fingerprints import WORDS, Fingerprint, MediaIndex, fingerprint, pixel_hash
from data_engine.schema import Media, Sample, prompt_text
from data_engine.shards import read_manifest, read_samples
from data_engine.shingles import ShingleIndex, shingles
from data_engine.source_ids import source_ids
from data_engine.texts import TextIndex, signatures
from mmrl.config import InputError
from mmrl.vision import CoordinateSpace

VERSION = b"2"
BATCH = 256
RECENT = 256  # media whose matches are remembered: samples about one picture stand together

Evidence = Literal["source_id", "image", "text", "both"]

MEDIA = pa.struct(
    [
        ("kind", pa.string()),
        ("sha256", pa.string()),
        ("pixels", pa.string()),
        ("phash", pa.binary()),
        ("edges", pa.binary()),
        ("flat", pa.binary()),
    ]
)
SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("id", pa.string()),
        ("where", pa.string()),
        ("media", pa.list_(MEDIA)),
        ("source_ids", pa.list_(pa.string())),
        ("text", pa.binary()),
        ("shingles", pa.binary()),
    ],
    metadata={"mmrl_fingerprints": VERSION},
)


@dataclass(frozen=True, slots=True)
class Leak:
    """What ties a sample to one of a benchmark."""

    benchmark: str
    id: str  # of the benchmark's sample
    by: Evidence


def write_index(samples: Iterable[Sample], benchmark: str, path: Path) -> int:
    """Write the fingerprints of samples to `path`, in one step; how many there are."""
    count, arriving = 0, path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, seen = iter(samples), dict[str, dict[str, Any]]()
    with pq.ParquetWriter(arriving, SCHEMA, compression="zstd") as file:
        while batch := list(islice(samples, BATCH)):
            asked = [prompt_text(one.prompt) for one in batch]
            rows = [
                {
                    "benchmark": benchmark,
                    "id": one.id,
                    "where": str(one.meta.get("where", "")),
                    "media": [_media_row(item, seen) for item in one.media],
                    "source_ids": sorted(source_ids(one)),
                    "text": signature.tobytes(),
                    "shingles": shingles(question).tobytes(),
                }
                for one, question, signature in zip(batch, asked, signatures(asked), strict=True)
            ]
            file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            count += len(rows)
    arriving.replace(path)
    return count


@contextmanager
def benchmark_samples(which: str, split: str | None) -> Iterator[tuple[str, Iterable[Sample]]]:
    """(name, samples) of a dataset directory, or of NAME=FILE, a benchmark that `mmrl eval` knows and its rows."""
    name, named, file = which.partition("=")
    if not named:
        directory = Path(which)
        read_manifest(directory)
        yield directory.resolve().name, read_samples(directory, split=split)
        return
    settings, load = (
        resolve_name(f"eval.{one}") for one in ("benchmark:BenchmarkData", "benchmarks.load:named_benchmark")
    )
    with tempfile.TemporaryDirectory() as media:  # both live above this package
        benchmark = load(name, settings(path=file, split=split), space=CoordinateSpace.pixel, media=Path(media))
        yield name, benchmark.load()


class LeakIndex:
    """The fingerprints of benchmarks, ready for questions."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.sizes = Counter[str]()  # benchmark -> its samples
        self._names: list[tuple[str, str]] = []  # (benchmark, id) of each sample
        self._named: dict[str, set[int]] = defaultdict(set)  # an id of a sample or a source id -> samples
        self._media: dict[str, MediaIndex] = {}
        self._owners: dict[str, list[set[int]]] = defaultdict(list)
        self._shown: dict[str, int] = {}
        self._pixels: dict[str, set[int]] = defaultdict(set)  # for pictures without anything to tell them by
        self._texts, self._shingles = TextIndex(), ShingleIndex()
        self._showing = functools.lru_cache(maxsize=RECENT)(self._looked_up)
        for path in paths:
            for row in _rows(path):
                self._add(row)

    def leaks(self, sample: Sample, *, text: float) -> list[Leak]:
        """Every benchmark sample that has an id in common with this one, a picture that looks the same, its question
        (`text` of its word triples, or that much of it in runs of eight words), or both."""
        question = prompt_text(sample.prompt)
        same = set().union(*(self._named.get(name, ()) for name in (sample.id, *source_ids(sample))))
        seen = set().union(*(self._showing(media) for media in sample.media))
        asked = {
            *self._texts.matches(signatures([question])[0], text),
            *self._shingles.matches(shingles(question), text),
        }
        found: list[Leak] = []
        for place in sorted(same | seen | asked):
            by: Evidence = "source_id" if place in same else "image" if place not in asked else "text"
            by = "both" if place in asked and place in seen - same else by
            found.append(Leak(*self._names[place], by))
        return found

    def _add(self, row: dict[str, Any]) -> None:
        place = len(self._names)
        self._names.append((row["benchmark"], row["id"]))
        self.sizes[row["benchmark"]] += 1
        for name in (row["id"], *row["source_ids"]):
            self._named[name].add(place)
        self._texts.add(np.frombuffer(row["text"], np.uint32))
        self._shingles.add(np.frombuffer(row["shingles"], np.uint64), row["benchmark"])
        for media in row["media"]:
            kind, sha256 = media["kind"], media["sha256"]
            one = _fingerprint(media)
            if sha256 not in self._shown:
                index = self._media.setdefault(kind, MediaIndex(len(one.phash)))
                self._shown[sha256] = index.add(one)
                self._owners[kind].append(set())
            self._owners[kind][self._shown[sha256]].add(place)
            self._pixels[media["pixels"]].add(place)

    def _looked_up(self, media: Media) -> frozenset[int]:
        """The samples that show what looks like `media`."""
        if media.kind not in self._media:
            return frozenset()
        one = fingerprint(media)
        if one.is_plain:
            return frozenset(self._pixels.get(pixel_hash(media), ()))
        found = self._media[media.kind].matches(one)
        return frozenset().union(*(self._owners[media.kind][place] for place in found))


def _media_row(media: Media, seen: dict[str, dict[str, Any]]) -> dict[str, Any]:
    sha256 = media.sha256 or ""
    if sha256 not in seen:
        one = fingerprint(media)
        hashes = {name: getattr(one, name).tobytes() for name in ("phash", "edges", "flat")}
        seen[sha256] = {"kind": media.kind, "sha256": sha256, "pixels": pixel_hash(media), **hashes}
    return seen[sha256]


def _fingerprint(row: dict[str, Any]) -> Fingerprint:
    edges = np.frombuffer(row["edges"], np.uint64).reshape(-1, WORDS)
    return Fingerprint(np.frombuffer(row["phash"], np.uint64), edges, np.frombuffer(row["flat"], bool))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path} cannot be read as a fingerprint file ({error}); write it by mmrl data index"
        ) from None
    with file:
        if (file.schema_arrow.metadata or {}).get(b"mmrl_fingerprints") != VERSION:
            raise InputError(
                f"{path} is no fingerprint file of version {VERSION.decode()}; write it by mmrl data index"
            )
        for batch in file.iter_batches():
            yield from batch.to_pylist()
