"""Tables of questions: JSON, parquet files, Hugging Face datasets, and questions about a folder of videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.lines import json_entries, json_lines
from data_engine.sources.rows import PLAIN_ROWS, Row, Rows, samples_of
from mmrl.config import InputError, nearest

BATCH_ROWS = 64  # rows of a parquet file in memory at once: they may hold whole images


def jsonl(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a JSON-lines file."""
    file = existing(root, path, "JSONL file")
    return samples_of(json_lines(file, path), rows, media_root_of(root, file.parent, rows), "jsonl")


def json_array(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The entries of a file that is one JSON array, read as a stream."""
    file = existing(root, path, "JSON file")
    return samples_of(json_entries(file, path), rows, media_root_of(root, file.parent, rows), "json")


def video_questions(*, questions: str, videos: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a JSON-lines file of questions about the video files of a folder.

    A row names its `video`; one with `spans` ([[start, end]] in seconds of the file) is a temporal task.
    """
    if rows.media_root:
        raise InputError(f"rows.media_root {rows.media_root} has no say here: the videos lie in videos, {videos}")
    file, folder = existing(root, questions, "JSONL file of questions"), existing(root, videos, "folder of videos")
    return samples_of(map(_with_video, json_lines(file, questions)), rows, folder, "video_questions")


def parquet(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a parquet file, or of all parquet files of a folder; media are paths or `{bytes, path}`."""
    place, files = parquet_files(root, path)
    for file in files:
        check_columns(rows, pq.read_schema(file).names, file)
    folder = place if place.is_dir() else place.parent
    return samples_of(parquet_rows(files, root), rows, media_root_of(root, folder, rows), "parquet")


def saved_dataset(*, path: str, root: Path, split: str | None = None, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a Hugging Face dataset that `save_to_disk` wrote, or of one Arrow file of such a dataset."""
    import datasets

    folder = existing(root, path, "saved dataset or Arrow file")
    if folder.is_file():
        try:
            data = datasets.Dataset.from_file(str(folder))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{folder} is not an Arrow file of a dataset: {error}") from None
        check_columns(rows, data.column_names, folder)
        return samples_of(_dataset_rows(data, path), rows, media_root_of(root, folder.parent, rows), "datasets")
    try:
        data = datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} was not written by save_to_disk: {error}") from None
    if isinstance(data, Mapping):
        if split not in data:
            raise InputError(f"dataset {path} is asked for split {split}; {nearest(str(split), map(str, data))}")
        data = data[split]
    check_columns(rows, data.column_names, folder)
    return samples_of(_dataset_rows(data, path), rows, media_root_of(root, folder, rows), "datasets")


def hub_dataset(
    *, repo: str, root: Path, split: str, name: str | None = None, revision: str | None = None, rows: Rows = PLAIN_ROWS
) -> Items:
    """The rows of one split of a dataset on the Hugging Face hub, read as a stream. This one source needs a network.

    Of a dataset on disk `repo` may be its folder.
    """
    place = str(existing(root, repo, "folder of a dataset")) if (root / repo).is_dir() else repo

    def download() -> Iterator[Row]:
        import datasets

        try:
            data = datasets.load_dataset(place, name, split=split, revision=revision, streaming=True)
        except (OSError, ValueError) as error:  # of networks and repositories that are not there, and of unknown splits
            raise InputError(f"split {split} of {repo} cannot be loaded: {type(error).__name__}: {error}") from None
        yield from _dataset_rows(data, f"{repo}[{split}]")

    return samples_of(download(), rows, media_root_of(root, root, rows), "hub")


def _with_video(row: Row) -> Row:
    if row.error or not isinstance(row.values, Mapping) or "video" in row.values or "videos" in row.values:
        return row
    return row._replace(error=RowError("no_video", "the row names no video; give the file's name under video"))


def parquet_files(root: Path, path: str) -> tuple[Path, list[Path]]:
    """(place, its parquet files): a file or a folder, every file with a schema that can be read."""
    place = existing(root, path, "parquet file or folder")
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"no *.parquet file in {place}")
    for file in files:
        try:
            pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is not a parquet file: {error}") from None
    return place, files


def parquet_rows(files: Iterable[Path], root: Path) -> Iterator[Row]:
    """The rows of parquet files, one small batch in memory at a time."""
    for file in files:
        place = file.relative_to(root) if file.is_relative_to(root) else file
        batches = pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS)
        yield from _whole((values for batch in batches for values in batch.to_pylist()), str(place))


def _dataset_rows(data: Any, place: str) -> Iterator[Row]:
    """The rows of a Hugging Face dataset as they are stored: images and videos as `{bytes, path}`."""
    batches = data.with_format("arrow").iter(batch_size=BATCH_ROWS)
    return _whole((values for batch in batches for values in batch.to_pylist()), place)


def _whole(table: Iterable[Any], place: str) -> Iterator[Row]:
    """The rows of a table, and where it is damaged an error in place of the rest."""
    number = 0
    try:
        for number, values in enumerate(table, start=1):
            yield Row(f"{place}:{number}", values)
    except (pa.ArrowInvalid, OSError) as error:
        why = f"from this row on the table cannot be read ({error}); get the file again"
        yield Row(f"{place}:{number + 1}", {}, RowError("unreadable", why))


def check_columns(rows: Rows, names: Sequence[str], file: Path) -> None:
    """Refuse a table without the columns that `rows` names, or without a question."""
    for ours, theirs in rows.columns.items():
        if theirs not in names:
            raise InputError(f"{file} has no column {theirs} for {ours}; {nearest(theirs, names)}")
    asked = [rows.columns.get(name, name) for name in ("question", "prompt")]
    if not set(asked) & set(names):
        raise InputError(
            f"{file} has no column {' or '.join(asked)}; name it in rows.columns; {nearest('question', names)}"
        )


def media_root_of(root: Path, default: Path, rows: Rows) -> Path:
    """Where media must lie: what the rows say, else the folder of the table."""
    return existing(root, rows.media_root, "media_root") if rows.media_root else default
