"""Writes a dataset directory whole or not at all; `data_engine.dataset.shards` lists its files.

The folder is built next to its place under a fixed name, so that a killed run finds the media that it had copied.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from data_engine.code_version import package_versions
from data_engine.dataset.card import card
from data_engine.dataset.report import Repeat, report
from data_engine.dataset.tables import DROPPED, QUARANTINE, SAMPLES, STATS, RowWriter, quarantine_row, stats_row
from data_engine.media.media_store import MediaStore
from data_engine.operator import Quarantined, describe, quarantine
from data_engine.schema import SPLIT_NAME, Sample, to_row, with_id
from mmrl.core.config import InputError
from mmrl.core.files import beside, put_in_place, restore, sha256_of
from mmrl.core.locks import Lock
from mmrl.core.media.files import MediaError

DEFAULT_SPLIT = "train"  # of samples without a split
REPEATS = 24  # pairs of a dropped sample and the one it repeats, in the report


class DatasetWriter:
    """Takes samples one by one; the directory appears at `out` when the `with` block ends without an error.

    Until then `out` is as it was. It is replaced only if it is a dataset; meanwhile no other run can write there.
    Relative paths of media start at `root` and may not leave it; without a root, paths are used as they are. `recipe`
    is the fingerprint of the recipe. `threads` threads copy the media.
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
        threads: int = 1,
    ) -> None:
        if rows_per_shard < 1:
            raise InputError(f"rows_per_shard is {rows_per_shard}; give 1 or more")
        self.out = Path(out).resolve()
        self._lock = Lock(self.out)
        restore(self.out)
        try:
            _check_replaceable(self.out)
        except InputError:
            self._lock.release()
            raise
        self._partial = beside(self.out, "partial")
        _clear(self._partial)
        self._about: dict[str, Any] = {"name": name, "recipe": recipe}
        self._rows_per_shard = rows_per_shard
        self._store = MediaStore(self._partial, root, embed=embed_media)
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self._shards: dict[str, list[RowWriter]] = {}
        self._stats = RowWriter(self._partial / "stats.parquet", STATS)
        self._quarantine: RowWriter | None = None
        self._left_out: RowWriter | None = None
        self._kept = {name: Counter[str]() for name in ("sources", "tasks", "splits", "licences")}
        self._quarantined = Counter[str]()
        self._repeats: list[Repeat] = []
        self._read: int | None = None
        self._dropped: dict[str, int] = {}

    def add(self, sample: Sample) -> bool:
        """Write a sample and copy its media. False if they can no longer be read: it is quarantined."""
        return bool(self.add_all([sample]))

    def add_all(self, samples: Sequence[Sample]) -> list[Sample]:
        """Write samples in their order; returns those that were written."""
        splits = [_split(sample) for sample in samples]
        made = (self._threads.map if self._threads else map)(self._stored, samples)
        written = []
        for sample, split, stored in zip(samples, splits, made, strict=True):
            if isinstance(stored, MediaError):
                self.quarantine(quarantine(sample, stored.reason, str(stored)))
            else:
                self._write(stored if stored.id else with_id(stored), split)
                written.append(sample)
        return written

    def quarantine(self, item: Quarantined) -> None:
        """Write a broken input to the quarantine."""
        self.quarantine_row(quarantine_row(item))

    def quarantine_row(self, row: dict[str, str]) -> None:
        """As `quarantine`, for an input that is a row already."""
        if self._quarantine is None:
            self._quarantine = RowWriter(self._partial / "quarantine" / "part-00000.parquet", QUARANTINE)
        self._quarantine.add(row)
        self._quarantined[row["reason"]] += 1

    def drop(self, reason: str, stats: Mapping[str, Any]) -> None:
        """Write the measures of a dropped sample; `reason` is "stage: reason"."""
        if self._left_out is None:
            self._left_out = RowWriter(self._partial / "dropped.parquet", DROPPED)
        self._left_out.add({"reason": reason, **stats})

    def repeat(self, stage: str, like: str, sample: Sample) -> None:
        """Show a dropped sample in the report next to the sample `like` that it repeats, if there is room."""
        if len(self._repeats) < REPEATS:
            self._repeats.append(Repeat(stage, like, sample))

    def account(self, read: int, dropped: Mapping[str, int]) -> None:
        """Set how many inputs were read, and dropped by reason; at the end it is checked that the numbers add up."""
        self._read, self._dropped = read, dict(dropped)

    def explain(self, **about: Any) -> None:
        """Add entries to the manifest: the origin, the requested mix."""
        self._about |= about

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if self._threads:
                self._threads.shutdown(cancel_futures=True)
            for writer in self._writers():
                writer.close()
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._lock.release()

    def _stored(self, sample: Sample) -> Sample | MediaError:
        try:
            return replace(sample, media=tuple(map(self._store.add, sample.media)))
        except MediaError as error:
            return error

    def _write(self, stored: Sample, split: str) -> None:
        self._shard(split).add(to_row(stored), sum(len(media.bytes or b"") for media in stored.media))
        self._stats.add(stats_row(stored, split))
        licence = str(stored.meta.get("licence") or stored.meta.get("license") or "unknown")
        values = {"sources": stored.source, "tasks": stored.task, "splits": split, "licences": licence}
        for kind, value in values.items():
            self._kept[kind][value] += 1

    def _finish(self) -> None:
        self._store.prune()
        manifest = self._manifest()
        (self._partial / "card.md").write_text(card(manifest), encoding="utf-8")
        text = json.dumps(manifest, indent=2, sort_keys=True)
        (self._partial / "manifest.json").write_text(text + "\n", encoding="utf-8")
        (self._partial / "report.html").write_bytes(report(self._partial, manifest, self._repeats))
        put_in_place(self._partial, self.out)

    def _manifest(self) -> dict[str, Any]:
        kept, quarantined = self._stats.count, self._quarantined.total()
        dropped = sum(self._dropped.values())
        read = kept + dropped + quarantined if self._read is None else self._read
        if read != kept + dropped + quarantined:
            raise ValueError(f"read {read} samples, but kept {kept}, dropped {dropped} and quarantined {quarantined}")
        others = [file for file in (self._stats, self._left_out, self._quarantine) if file]
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
            "versions": package_versions(),
        }

    def _entry(self, writer: RowWriter) -> dict[str, Any]:
        path = writer.path.relative_to(self._partial).as_posix()
        return {"path": path, "rows": writer.count, "sha256": sha256_of(writer.path)}

    def _writers(self) -> Iterator[RowWriter]:
        yield from (file for file in (self._stats, self._left_out, self._quarantine) if file)
        for writers in self._shards.values():
            yield from writers

    def _shard(self, split: str) -> RowWriter:
        writers = self._shards.setdefault(split, [])
        if not writers or writers[-1].count == self._rows_per_shard:
            if writers:
                writers[-1].close()
            writers.append(RowWriter(self._partial / "shards" / f"{split}-{len(writers):05}.parquet", SAMPLES))
        return writers[-1]


def check_place(out: str, *, read: str, used: str) -> None:
    """InputError if a dataset at `out` would replace the dataset that is `read`, the folder `used` by the run, or what
    is no dataset; better before the long work that it is made of."""
    for place, what in ((read, "where the samples are"), (used, "where the run keeps its records")):
        if Path(out).resolve() == Path(place).resolve():
            raise InputError(f"dataset {out} is {what}; name a new directory")
    _check_replaceable(Path(out).resolve())


def _check_replaceable(out: Path) -> None:
    if out.exists() and not (out / "manifest.json").is_file() and not _is_empty(out):
        raise InputError(f"{out} is not a dataset and would be replaced; choose another place or remove it")


def _clear(partial: Path) -> None:
    """Remove what a killed run had written, except its media, which are whole and named by their content."""
    for place in partial.iterdir() if partial.exists() else ():
        if place.name != "media":
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def _split(sample: Sample) -> str:
    split = sample.meta.get("split", DEFAULT_SPLIT)
    if not isinstance(split, str) or not SPLIT_NAME.fullmatch(split):
        raise InputError(f"{describe(sample)} has the split {split!r}; a split is named by letters, digits and _")
    return split


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
