"""Chunks: a few hundred samples on disk, named by what they were made from.

    DIR/chunks/ab/ab12... .zst   lines of JSON: counts, stopped samples, kept samples
    DIR/media/ab/ab34...         media that samples carry as bytes, each content once
    DIR/done/ab56... .json       the names of all chunks of a finished stage

A name is a hash of the operator, its version, its options and the name of its input. A chunk that exists is not made
again, so resuming a run and reusing the work of another run are the same thing. Files appear whole or not at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_engine.dataset.tables import quarantine_row, stats_row
from data_engine.operator import Dropped, Quarantined
from data_engine.schema import Sample
from mmrl.core.files import room_for, sha256_of, write_atomic
from mmrl.core.media.item import Media

ROWS = 256  # samples in a chunk: the work that is lost when a process is killed
BYTES = 32 * 2**20  # of media inside the samples of a chunk
PARTS = 3  # lines of a chunk
SHOWN = 64  # stopped samples of a chunk that may be kept for the report
PLAIN = ("path", "sha256", "width", "height", "num_frames", "fps", "duration", "start", "end")

Looks = dict[str, str]  # path that a source read -> its state, see data_engine.cache_keys.state_of


@dataclass(frozen=True, slots=True)
class Stop:
    """A sample that a stage dropped or quarantined.

    `row` is its row of the quarantine and `stats` the row of its measures. `like` is the id of the sample that it
    repeats; `sample` is the dropped sample itself, if the report may show it.
    """

    stage: str
    reason: str
    row: dict[str, str] | None = None
    like: str = ""
    sample: Sample | None = None
    stats: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of a chunk and its counts: kept, dropped by "stage: reason", quarantined by reason."""

    key: str
    kept: int
    dropped: dict[str, int]
    quarantined: dict[str, int]


@dataclass(slots=True)
class Chunk:
    """The kept samples, and those stopped since the last stage that was written to disk."""

    kept: list[Sample] = field(default_factory=list)
    stopped: list[Stop] = field(default_factory=list)
    looks: Looks = field(default_factory=dict)

    def stop(self, stage: str, outcome: Dropped | Quarantined) -> None:
        """Record a stopped sample. Some samples that repeat another one are kept for the report."""
        if isinstance(outcome, Quarantined):
            self.stopped.append(Stop(stage, outcome.reason, quarantine_row(outcome)))
        else:
            example = outcome.sample if outcome.like and len(self.stopped) < SHOWN else None
            stats = stats_row(outcome.sample, str(outcome.sample.meta.get("split", "")))
            self.stopped.append(Stop(stage, outcome.reason, None, outcome.like, example, stats))


class DamagedError(Exception):
    """A chunk on disk that is missing or damaged; it is made again."""


class Chunks:
    """The chunks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ref(self, key: str) -> Ref | None:
        """The counts of the chunk of that name, or None if it is missing or damaged."""
        try:
            return _ref(key, json.loads(self._lines(key)[0]))
        except (DamagedError, ValueError):
            return None

    def looks(self, key: str) -> Looks:
        """The files that were read to make the chunk, and their state."""
        return json.loads(self._lines(key)[0])["looks"]

    def read(self, key: str) -> Chunk:
        """The chunk of that name."""
        try:
            head, stopped, kept = map(json.loads, self._lines(key))
        except ValueError as error:
            raise DamagedError(f"chunk {key}: {error}") from None
        return Chunk(list(map(self._sample, kept)), list(map(self._stop, stopped)), head["looks"])

    def stops(self, key: str) -> list[Stop]:
        """The stopped samples of a chunk; its kept samples are not decoded."""
        return list(map(self._stop, json.loads(self._lines(key)[1])))

    def write(self, chunk: Chunk, key: str | None = None) -> Ref:
        """Write the chunk under `key`; without a key, under the hash of its content."""
        dropped = Counter(f"{stop.stage}: {stop.reason}" for stop in chunk.stopped if stop.row is None)
        broken = Counter(stop.reason for stop in chunk.stopped if stop.row is not None)
        counts = {"dropped": dict(sorted(dropped.items())), "quarantined": dict(sorted(broken.items()))}
        head = {"kept": len(chunk.kept), **counts, "looks": chunk.looks}
        parts = head, list(map(self._stop_row, chunk.stopped)), list(map(self._row, chunk.kept))
        text = "\n".join(map(json.dumps, parts)).encode()
        key = key or sha256_of(text)[:32]
        place = self._place("chunks", key, ".zst")
        with pa.BufferOutputStream() as plain:
            with pa.CompressedOutputStream(plain, "zstd") as packed:
                packed.write(text)
            self._put(place, plain.getvalue().to_pybytes())
        return _ref(key, head)

    def check(self, sample: Sample) -> None:
        """Raise the error that writing this sample would raise."""
        json.dumps(self._row(sample))

    def finish(self, key: str, refs: Sequence[Ref]) -> None:
        """Record that a stage is finished."""
        self._put(self._place("done", key, ".json"), json.dumps([ref.key for ref in refs]).encode())

    def finished(self, key: str) -> list[Ref] | None:
        """The chunks of a finished stage; None if it is not finished or a chunk is missing."""
        try:
            keys = json.loads(self._place("done", key, ".json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        refs = [self.ref(name) for name in keys]
        whole = [ref for ref in refs if ref is not None]
        return whole if len(whole) == len(refs) else None

    def remembered(self, key: str, make: Callable[[], Any]) -> Any:
        """The JSON value that `make` returns; it is called once."""
        place = self._place("done", key, ".json")
        try:
            return json.loads(place.read_bytes())
        except (FileNotFoundError, ValueError):
            made = make()
            self._put(place, json.dumps(made).encode())
            return made

    def _lines(self, key: str) -> list[bytes]:
        """The three lines of a chunk: counts, stopped samples, kept samples, each as JSON."""
        try:
            packed = self._place("chunks", key, ".zst").read_bytes()
            text = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read()
        except (FileNotFoundError, OSError, pa.ArrowException) as error:
            raise DamagedError(f"chunk {key}: {error}") from None
        lines = text.split(b"\n")
        if len(lines) != PARTS or lines[-1][-1:] != b"]":
            raise DamagedError(f"chunk {key} is torn")
        return lines

    def _row(self, sample: Sample) -> dict[str, Any]:
        media = [self._media_row(item) for item in sample.media]
        question = {"prompt": sample.prompt, "answer": sample.answer}
        name = {"id": sample.id, "source": sample.source, "task": sample.task}
        return {**name, **question, "media": media, "meta": dict(sample.meta)}

    def _sample(self, row: Mapping[str, Any]) -> Sample:
        return Sample(**{**row, "media": tuple(map(self._media, row["media"]))})

    def _media_row(self, media: Media) -> dict[str, Any]:
        row: dict[str, Any] = {"kind": media.kind}
        row |= {name: value for name in PLAIN if (value := getattr(media, name)) is not None}
        if media.bytes is not None:
            name = media.sha256 or sha256_of(media.bytes)
            place = self._place("media", name)
            if not place.exists():
                self._put(place, media.bytes)
            row["bytes"] = name
        return row

    def _media(self, row: dict[str, Any]) -> Media:
        if "bytes" in row:
            try:
                row = {**row, "bytes": self._place("media", row["bytes"]).read_bytes()}
            except FileNotFoundError as error:
                raise DamagedError(f"media of a chunk are gone: {error}") from None
        return Media(**row)

    def _stop_row(self, stop: Stop) -> dict[str, Any]:
        row = {"stage": stop.stage, "reason": stop.reason, "row": stop.row, "like": stop.like, "stats": stop.stats}
        return row | {"sample": self._row(stop.sample) if stop.sample else None}

    def _stop(self, row: dict[str, Any]) -> Stop:
        return Stop(**{**row, "sample": self._sample(row["sample"]) if row["sample"] else None})

    def _place(self, kind: str, key: str, suffix: str = "") -> Path:
        return self.folder / kind / key[:2] / f"{key}{suffix}"

    def _put(self, place: Path, content: bytes) -> None:
        with room_for(self.folder):
            write_atomic(place, content, durable=False)  # a file that a power cut tore is noticed when it is read


def _ref(key: str, head: Mapping[str, Any]) -> Ref:
    return Ref(key, head["kept"], head["dropped"], head["quarantined"])
