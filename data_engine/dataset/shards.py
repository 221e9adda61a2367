"""The dataset directory: written whole or not at all, read back sample by sample.

    DIR/shards/<split>-00000.parquet    a row per sample, `data_engine.schema.to_row`; the split is `meta["split"]`
    DIR/media/<sha256[:2]>/<sha256>.jpg the images and videos, named by their content (or inside the shards)
    DIR/quarantine/part-00000.parquet   broken inputs: reason, why, source, where, row
    DIR/stats.parquet                   a row of measures per sample
    DIR/dropped.parquet                 the same for dropped samples, with the reason
    DIR/manifest.json                   counts, the hash of every file, versions
    DIR/card.md                         a description of the dataset, as the hub shows it
    DIR/report.html                     the dataset in pictures

It loads with `datasets.load_dataset("parquet", data_files={"train": "DIR/shards/train-*.parquet"})`, and as the splits
are in the file names, with `datasets.load_dataset("DIR")`. The same samples in the same order give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.dataset.tables import SAMPLES
from data_engine.dataset.writer import DatasetWriter
from data_engine.operator import Quarantined
from data_engine.schema import Sample, content_id, from_row
from mmrl.core.config import InputError, nearest, validate
from mmrl.core.media.files import MediaError, placed, resolve
from rewards.prompt_form import PromptForm

__all__ = [
    "DatasetWriter",
    "is_plain",
    "prompt_of",
    "read_manifest",
    "read_samples",
    "shards_of",
    "with_own_ids",
    "write_dataset",
]

READ_ROWS = 64  # rows in memory at once: they may hold whole videos


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

    A missing shard, a row that is not a sample, and media that are missing or lie outside of the directory raise an
    InputError that names shard and row.
    """
    directory = Path(directory).resolve()
    return _samples(directory, shards_of(directory, split))


def with_own_ids(samples: Iterable[Sample], place: str | Path) -> Iterator[Sample]:
    """The samples as they are; InputError where two different ones have the same id, by which encodings are kept."""
    seen: dict[str, str] = {}
    for sample in samples:
        content = content_id(sample)
        if seen.setdefault(sample.id, content) != content:
            right = "give each its own, or write them by mmrl data build, which makes ids of contents"
            raise InputError(f"two different samples of {place} have the id {sample.id!r:.80}; {right}")
        yield sample


def is_plain(place: Path) -> bool:
    """Whether a path is a table, a folder of parquet files or a saved dataset, and not what `mmrl data build` wrote."""
    if not place.is_dir():
        return place.is_file()
    names = {entry.name for entry in place.iterdir()}
    marks = {"dataset_dict.json", "dataset_info.json", "state.json"}
    return "manifest.json" not in names and bool(names & marks or any(name.endswith(".parquet") for name in names))


def shards_of(directory: Path, split: str | None = None) -> list[str]:
    """The shards of a dataset directory, or of one split, as its manifest names them."""
    manifest = read_manifest(directory)
    if split is not None and split not in manifest["splits"]:
        raise InputError(f"{directory} has no split {split!r}; {nearest(split, manifest['splits'])}")
    return [shard["path"] for shard in manifest["shards"] if split in (None, shard["split"])]


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The content of `manifest.json` of a dataset directory."""
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


def prompt_of(directory: str | Path) -> PromptForm:
    """The `prompt:` block of the recipe of a dataset directory: how its questions are asked where nobody says."""
    given = (read_manifest(directory).get("origin") or {}).get("prompt", {})
    return validate(PromptForm, given, where=f"{directory}/manifest.json: prompt")


def _samples(directory: Path, shards: list[str]) -> Iterator[Sample]:
    for shard in shards:
        read = 0
        try:
            file = pq.ParquetFile(resolve(shard, directory))
            _check_columns(file.schema_arrow, f"{directory}: {shard}")
            batches = file.iter_batches(batch_size=READ_ROWS)
            for row in (row for batch in batches for row in batch.to_pylist()):
                yield _located(from_row(row), directory)
                read += 1
        except _SchemaError as error:
            raise InputError(str(error)) from None
        except (MediaError, KeyError, TypeError, ValueError, OSError) as error:  # Arrow's errors are among them
            why = str(error) if isinstance(error, MediaError) else f"not a row of a dataset: {error!r}"
            raise InputError(f"{directory}: {shard}, row {read}: {why}") from None


class _SchemaError(Exception):
    """A parquet file with other columns."""


def _check_columns(schema: pa.Schema, where: str) -> None:
    """Raise an error if a column of samples is missing or has another type; other columns are ignored."""
    types = {field.name: field.type for field in schema}
    wrong = [
        f"{field.name} is {types.get(field.name, 'missing')}, not {field.type}"
        for field in SAMPLES
        if field.name not in types or not _alike(types[field.name], field.type)
    ]
    if wrong:
        raise _SchemaError(f"{where} is not a table of samples: {'; '.join(wrong)}. Build the dataset again")


def _alike(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether both are texts, or both lists: other programs write them with 64-bit offsets and other field names."""
    if pa.types.is_string(wanted):
        return pa.types.is_string(given) or pa.types.is_large_string(given)
    return pa.types.is_list(given) or pa.types.is_large_list(given)


def _located(sample: Sample, directory: Path) -> Sample:
    """The sample with the paths of its media made absolute."""
    return replace(sample, media=tuple(placed(item, directory) for item in sample.media))
