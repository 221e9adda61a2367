"""Fingerprint files of benchmarks, and the search for their samples in other data.

A file holds hashes, never pictures or questions, so it can be shared where the benchmark cannot.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.media.source_ids import source_ids
from data_engine.schema import Sample
from data_engine.similar.image_hash import WORDS, Fingerprint, MediaIndex, fingerprint, pixel_hash
from data_engine.similar.minhash import TextIndex, sketch, sketch_from
from data_engine.similar.ngrams import ShingleIndex, shingles
from mmrl.core.config import InputError
from mmrl.core.files import appearing
from mmrl.core.media.item import Media
from mmrl.core.messages import prompt_text

VERSION = b"4"
BATCH = 256
RECENT = 256  # media whose matches are cached: samples about one picture follow each other

Evidence = Literal["source_id", "image", "text", "both"]
STRONGEST: tuple[Evidence, ...] = ("source_id", "both", "image", "text")  # the first that applies names a leak
Cut = tuple[str, float | None, float | None]  # SHA-256 of a file, start and end of the shown part in seconds

MEDIA = pa.struct(
    [
        *((name, pa.string()) for name in ("kind", "sha256")),
        *((name, pa.float64()) for name in ("start", "end")),
        ("pixels", pa.string()),
        *((name, pa.binary()) for name in ("phash", "edges", "flat")),
    ]
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("benchmark", "id", "where")),
        ("media", pa.list_(MEDIA)),
        ("source_ids", pa.list_(pa.string())),
        *((name, pa.binary()) for name in ("text", "shingles")),
    ],
    metadata={"mmrl_fingerprints": VERSION},
)


@dataclass(frozen=True, slots=True)
class Leak:
    """A benchmark sample that matches a sample, and the evidence."""

    benchmark: str
    id: str  # of the benchmark's sample
    by: Evidence


def write_index(samples: Iterable[Sample], benchmark: str, path: Path) -> int:
    """Write the fingerprints of samples to `path`; returns their number."""
    samples, seen, count = iter(samples), dict[Cut, dict[str, Any]](), 0
    with appearing(path) as staging, pq.ParquetWriter(staging, SCHEMA, compression="zstd") as file:
        while batch := list(islice(samples, BATCH)):
            rows = [
                {
                    "benchmark": benchmark,
                    "id": sample.id,
                    "where": str(sample.meta.get("where", "")),
                    "media": [_media_row(item, seen) for item in sample.media],
                    "source_ids": sorted(source_ids(sample)),
                    "text": sketch(question).__getstate__(),
                    "shingles": shingles(question).tobytes(),
                }
                for sample in batch
                for question in [prompt_text(sample.prompt)]
            ]
            file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            count += len(rows)
    return count


class LeakIndex:
    """The fingerprints of benchmarks, read from files; `leaks` searches them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.sizes = Counter[str]()  # benchmark -> its samples
        self._names: list[tuple[str, str]] = []  # (benchmark, id) of each sample
        self._named: dict[str, set[int]] = defaultdict(set)  # an id of a sample or a source id -> samples
        self._media: dict[str, MediaIndex] = {}
        self._owners: dict[str, list[set[int]]] = defaultdict(list)
        self._cuts: dict[Cut, int] = {}
        self._pixels: dict[str, set[int]] = defaultdict(set)  # for plain pictures, whose fingerprints are all alike
        self._texts, self._shingles = TextIndex(), ShingleIndex()
        self._showing = functools.lru_cache(maxsize=RECENT)(self._looked_up)
        for path in paths:
            for row in _rows(path):
                self._add(row)

    def leaks(self, sample: Sample, *, text: float, by: Collection[Evidence] = STRONGEST) -> list[Leak]:
        """The benchmark samples that match this one, each by the strongest evidence of those in `by`.

        Evidence is a common id, a picture that looks the same, the question (at least `text` of the word triples, or
        that share of its words in common runs of eight words), or picture and question both.
        """
        question = prompt_text(sample.prompt)
        same = set().union(*(self._named.get(name, ()) for name in (sample.id, *source_ids(sample))))
        seen = set().union(*(self._showing(media) for media in sample.media))
        asked = {*self._texts.matches(sketch(question), text), *self._shingles.matches(shingles(question), text)}
        places: dict[Evidence, set[int]] = {"source_id": same, "both": seen & asked, "image": seen, "text": asked}
        strongest: dict[int, Evidence] = {}
        for evidence in STRONGEST:
            for place in places[evidence] if evidence in by else ():
                strongest.setdefault(place, evidence)
        return [Leak(*self._names[place], strongest[place]) for place in sorted(strongest)]

    def _add(self, row: dict[str, Any]) -> None:
        place = len(self._names)
        self._names.append((row["benchmark"], row["id"]))
        self.sizes[row["benchmark"]] += 1
        for name in (row["id"], *row["source_ids"]):
            self._named[name].add(place)
        self._texts.add(sketch_from(row["text"]))
        self._shingles.add(np.frombuffer(row["shingles"], np.uint64), row["benchmark"])
        for media in row["media"]:
            kind, hashes = media["kind"], _fingerprint(media)
            cut = _cut(media["sha256"], media["start"], media["end"])
            at = self._cuts.get(cut) if cut else None
            if at is None:
                at = self._media.setdefault(kind, MediaIndex(len(hashes.phash))).add(hashes)
                self._owners[kind].append(set())
            if cut:
                self._cuts[cut] = at
            self._owners[kind][at].add(place)
            self._pixels[media["pixels"]].add(place)

    def _looked_up(self, media: Media) -> frozenset[int]:
        """The benchmark samples whose media look like `media`."""
        if media.kind not in self._media:
            return frozenset()
        hashes = fingerprint(media)
        if hashes.is_plain:
            return frozenset(self._pixels.get(pixel_hash(media), ()))
        places = self._media[media.kind].matches(hashes)
        return frozenset().union(*(self._owners[media.kind][place] for place in places))


def _cut(sha256: str | None, start: float | None, end: float | None) -> Cut | None:
    """The key of the shown part of a file; None if the file was not hashed."""
    return (sha256, start, end) if sha256 else None


def _media_row(media: Media, seen: dict[Cut, dict[str, Any]]) -> dict[str, Any]:
    cut = _cut(media.sha256, media.start, media.end)
    if cut in seen:
        return seen[cut]
    hashes = fingerprint(media)
    about = {"kind": media.kind, "sha256": media.sha256, "start": media.start, "end": media.end}
    row = {**about, "pixels": pixel_hash(media)}
    row |= {name: getattr(hashes, name).tobytes() for name in ("phash", "edges", "flat")}
    if cut:
        seen[cut] = row
    return row


def _fingerprint(row: dict[str, Any]) -> Fingerprint:
    edges = np.frombuffer(row["edges"], np.uint64).reshape(-1, WORDS)
    return Fingerprint(np.frombuffer(row["phash"], np.uint64), edges, np.frombuffer(row["flat"], bool))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read as a fingerprint file ({error}); write it by mmrl data index"
        ) from None
    with file:
        if (file.schema_arrow.metadata or {}).get(b"mmrl_fingerprints") != VERSION:
            raise InputError(
                f"{path} is not a fingerprint file of version {VERSION.decode()}; write it by mmrl data index"
            )
        for batch in file.iter_batches():
            yield from batch.to_pylist()
