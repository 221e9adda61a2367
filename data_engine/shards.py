"""The dataset directory: written whole or not at all, read back sample by sample.

    DIR/shards/<split>-00000.parquet    a row per sample, `data_engine.schema.to_row`; the split is `meta["split"]`
    DIR/media/<sha256[:2]>/<sha256>.jpg the images and videos, named by their content (or inside the shards)
    DIR/quarantine/part-00000.parquet   what is broken: reason, why, source, where, row
    DIR/stats.parquet                   a row of measures per sample
    DIR/manifest.json                   counts, the hash of every file, versions
    DIR/card.md                         the dataset in words

It loads with `datasets.load_dataset("parquet", data_files={"train": "DIR/shards/train-*.parquet"})`, and as the splits
are in the file names, with `datasets.load_dataset("DIR")`. The same samples in the same order give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet as pq

from data_engine.card import card
from data_engine.files import MediaError, put_in_place, resolve, restore, sha256_of
from data_engine.ops.base import Quarantined, describe, quarantine
from data_engine.rows import QUARANTINE, SAMPLES, STATS, RowWriter, quarantine_row, stats_row
from data_engine.schema import Sample, from_row, to_row, with_id
from data_engine.store import MediaStore
from mmrl.config import InputError, nearest

DEFAULT_SPLIT = "train"  # of samples that name none
READ_ROWS = 64  # rows in memory at once: they may hold whole videos
PACKAGES = ("mmrl-stack", "pyarrow", "pillow", "av", "decord")  # whose version may show in the bytes


class DatasetWriter:
    """Takes samples one by one; the directory stands at `out` once the `with` block has ended without an error.

    What stood there stays until then, and is replaced only if it is a dataset. Paths of media start at `root`, which
    they may not leave; without a root they are taken as they are. `recipe` is the hash of what the samples come from.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        name: str = "dataset",
        recipe: str = "",
        root: Path | None = None,
        rows_per_shard: int = 10_000,
        embed_media: bool = False,
    ) -> None:
        if rows_per_shard < 1:
            raise InputError(f"rows_per_shard is {rows_per_shard}; give 1 or more")
        self.out = Path(out).resolve()
        restore(self.out)
        if self.out.exists() and not (self.out / "manifest.json").is_file() and not _is_empty(self.out):
            raise InputError(f"{self.out} is not a dataset and would be replaced; choose another place or remove it")
        self._partial = self.out.with_name(f".{self.out.name}.partial")
        if self._partial.exists():  # of a run that was killed
            shutil.rmtree(self._partial)
        self._about = {"name": name, "recipe": recipe}
        self._rows_per_shard = rows_per_shard
        self._store = MediaStore(self._partial, root, embed=embed_media)
        self._shards: dict[str, list[RowWriter]] = {}
        self._stats = RowWriter(self._partial / "stats.parquet", STATS)
        self._quarantine: RowWriter | None = None
        self._kept = {"sources": Counter[str](), "tasks": Counter[str](), "splits": Counter[str]()}
        self._quarantined = Counter[str]()
        self._read: int | None = None
        self._dropped: dict[str, int] = {}

    def add(self, sample: Sample) -> bool:
        """Write a sample and copy its media; if they cannot be read any more it is quarantined, and False returned."""
        split = _split(sample)
        try:
            stored = replace(sample, media=tuple(map(self._store.add, sample.media)))
        except MediaError as error:
            self.quarantine(quarantine(sample, error.reason, str(error)))
            return False
        stored = stored if stored.id else with_id(stored)
        self._shard(split).add(to_row(stored), sum(len(media.bytes or b"") for media in stored.media))
        self._stats.add(stats_row(stored, split))
        for kind, value in (("sources", stored.source), ("tasks", stored.task), ("splits", split)):
            self._kept[kind][value] += 1
        return True

    def quarantine(self, item: Quarantined) -> None:
        """Write what is wrong with a broken input."""
        if self._quarantine is None:
            self._quarantine = RowWriter(self._partial / "quarantine" / "part-00000.parquet", QUARANTINE)
        self._quarantine.add(quarantine_row(item))
        self._quarantined[item.reason] += 1

    def account(self, read: int, dropped: Mapping[str, int]) -> None:
        """Say how many inputs were read, and dropped by reason; the end checks that all are accounted for."""
        self._read, self._dropped = read, dict(dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            for writer in self._writers():
                writer.close()
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        manifest = self._manifest()
        (self._partial / "card.md").write_text(card(manifest), encoding="utf-8")
        text = json.dumps(manifest, indent=2, sort_keys=True)
        (self._partial / "manifest.json").write_text(text + "\n", encoding="utf-8")
        put_in_place(self._partial, self.out)

    def _manifest(self) -> dict[str, Any]:
        kept, quarantined = self._stats.count, self._quarantined.total()
        dropped = sum(self._dropped.values())
        read = kept + dropped + quarantined if self._read is None else self._read
        if read != kept + dropped + quarantined:
            raise ValueError(f"read {read} samples, but kept {kept}, dropped {dropped} and quarantined {quarantined}")
        others = [self._stats, *([self._quarantine] if self._quarantine else [])]
        return {
            "format": 1,
            **self._about,
            "counts": {"in": read, "kept": kept, "dropped": self._dropped, "quarantined": dict(self._quarantined)},
            **{kind: dict(counts) for kind, counts in self._kept.items()},
            "shards": [
                {"split": split, **self._entry(writer)}
                for split, writers in sorted(self._shards.items())
                for writer in writers
            ],
            "other_files": [self._entry(writer) for writer in others],
            "media": self._store.summary(),
            "versions": _versions(),
        }

    def _entry(self, writer: RowWriter) -> dict[str, Any]:
        path = writer.path.relative_to(self._partial).as_posix()
        return {"path": path, "rows": writer.count, "sha256": sha256_of(writer.path)}

    def _writers(self) -> Iterator[RowWriter]:
        yield self._stats
        if self._quarantine:
            yield self._quarantine
        for writers in self._shards.values():
            yield from writers

    def _shard(self, split: str) -> RowWriter:
        writers = self._shards.setdefault(split, [])
        if not writers or writers[-1].count == self._rows_per_shard:
            if writers:
                writers[-1].close()
            writers.append(RowWriter(self._partial / "shards" / f"{split}-{len(writers):05}.parquet", SAMPLES))
        return writers[-1]


def write_dataset(
    samples: Iterable[Sample | Quarantined],
    out: str | Path,
    *,
    read: int | None = None,
    dropped: Mapping[str, int] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write samples, and the broken ones among them, as a dataset directory; returns its manifest.

    `options` are those of `DatasetWriter`.
    """
    with DatasetWriter(out, **options) as writer:
        for item in samples:
            writer.add(item) if isinstance(item, Sample) else writer.quarantine(item)
        if read is not None:
            writer.account(read, dropped or {})
    return read_manifest(Path(out))


def read_samples(directory: str | Path, split: str | None = None) -> Iterator[Sample]:
    """The samples of a dataset directory, or of one split, in order; the paths of their media are absolute.

    A shard that is gone, a row that is no sample, and media that are gone or lie outside of the directory raise an
    InputError that names shard and row.
    """
    directory = Path(directory).resolve()
    manifest = read_manifest(directory)
    if split is not None and split not in manifest["splits"]:
        raise InputError(f"{directory} has no split {split!r}; {nearest(split, manifest['splits'])}")
    return _samples(directory, [shard["path"] for shard in manifest["shards"] if split in (None, shard["split"])])


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """What `manifest.json` of a dataset directory says."""
    path = Path(directory) / "manifest.json"
    if not path.is_file():
        raise InputError(f"no dataset at {directory}: it has no manifest.json; build one with `mmrl data build`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(shard["path"], str) and shard["split"] in manifest["splits"] for shard in manifest["shards"]):
            return manifest
        raise ValueError("its shards are not of its splits")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); build the dataset again") from None


def _samples(directory: Path, shards: list[str]) -> Iterator[Sample]:
    for shard in shards:
        read = 0
        try:
            batches = pq.ParquetFile(resolve(shard, directory)).iter_batches(batch_size=READ_ROWS)
            for row in (row for batch in batches for row in batch.to_pylist()):
                yield _located(from_row(row), directory)
                read += 1
        except (MediaError, KeyError, TypeError, ValueError, OSError) as error:  # Arrow's errors are among them
            what = str(error) if isinstance(error, MediaError) else f"no row of a dataset: {error!r}"
            raise InputError(f"{directory}: {shard}, row {read}: {what}") from None


def _located(sample: Sample, directory: Path) -> Sample:
    """The sample with the paths of its media made absolute."""
    media = (
        item if item.path is None else replace(item, path=str(resolve(item.path, directory))) for item in sample.media
    )
    return replace(sample, media=tuple(media))


def _split(sample: Sample) -> str:
    split = sample.meta.get("split", DEFAULT_SPLIT)
    if not isinstance(split, str) or not re.fullmatch(r"\w+(\.\w+)*", split, re.ASCII):
        raise InputError(f"{describe(sample)} has the split {split!r}; a split is named by letters, digits and _")
    return split


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # decord has no wheel on some machines
            found[package] = version(package)
    return found
