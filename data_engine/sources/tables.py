"""Tables of questions: JSON lines, parquet files, Hugging Face datasets, and questions about a folder of videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.rows import PLAIN_ROWS, Row, Rows, samples_of
from mmrl.config import InputError, nearest

BATCH_ROWS = 64  # rows of a parquet file in memory at once: they may hold whole images
MAX_DEPTH = 32  # of nested JSON: whoever handles it later may recurse


def jsonl(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a JSON-lines file."""
    file = existing(root, path, "JSONL file")
    return samples_of(_json_rows(file, path), rows, _media_root(root, file.parent, rows), "jsonl")


def video_questions(*, questions: str, videos: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a JSON-lines file of questions about the video files of a folder.

    A row names its `video`; one with `spans` ([[start, end]] in seconds of the file) is a temporal task.
    """
    if rows.media_root:
        raise InputError(f"rows.media_root {rows.media_root} has no say here: the videos lie in videos, {videos}")
    file, folder = existing(root, questions, "JSONL file of questions"), existing(root, videos, "folder of videos")
    return samples_of(map(_with_video, _json_rows(file, questions)), rows, folder, "video_questions")


def parquet(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a parquet file, or of all parquet files of a folder; media are paths or `{bytes, path}`."""
    place = existing(root, path, "parquet file or folder")
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"no *.parquet file in {place}")
    for file in files:
        try:
            pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is not a parquet file: {error}") from None
    folder = place if place.is_dir() else place.parent
    return samples_of(_parquet_rows(files, root), rows, _media_root(root, folder, rows), "parquet")


def saved_dataset(*, path: str, root: Path, split: str | None = None, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a Hugging Face dataset that `save_to_disk` wrote."""
    import datasets

    folder = existing(root, path, "saved dataset")
    try:
        data = datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} was not written by save_to_disk: {error}") from None
    if isinstance(data, Mapping):
        if split not in data:
            raise InputError(f"dataset {path} is asked for split {split}; {nearest(str(split), map(str, data))}")
        data = data[split]
    return samples_of(_dataset_rows(data, path), rows, _media_root(root, folder, rows), "datasets")


def hub_dataset(
    *, repo: str, root: Path, split: str, name: str | None = None, revision: str | None = None, rows: Rows = PLAIN_ROWS
) -> Items:
    """The rows of one split of a dataset on the Hugging Face hub; this is the one source that needs a network."""

    def download() -> Iterator[Row]:
        import datasets

        yield from _dataset_rows(datasets.load_dataset(repo, name, split=split, revision=revision), f"{repo}[{split}]")

    return samples_of(download(), rows, _media_root(root, root, rows), "hub")


def _json_rows(file: Path, path: str) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _json_row(f"{path}:{number}", line)


def _json_row(where: str, line: bytes) -> Row:
    try:
        values = json.loads(line, parse_constant=_no_number)
        if _is_deeper(values, MAX_DEPTH):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        return Row(where, values)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        return Row(where, line[:1000].decode(errors="replace"), RowError("bad_json", f"no JSON to use: {error}"))


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in inner)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _with_video(row: Row) -> Row:
    if row.error or not isinstance(row.values, Mapping) or "video" in row.values or "videos" in row.values:
        return row
    return row._replace(error=RowError("no_video", "the row names no video; give the file's name under video"))


def _parquet_rows(files: Iterable[Path], root: Path) -> Iterator[Row]:
    for file in files:
        place = file.relative_to(root) if file.is_relative_to(root) else file
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{place}:{number}", values)


def _dataset_rows(data: Any, place: str) -> Iterator[Row]:
    import datasets

    undecoded = data.cast(datasets.Features({name: _undecoded(feature) for name, feature in data.features.items()}))
    for number, values in enumerate(undecoded, start=1):
        yield Row(f"{place}:{number}", values)


def _undecoded(feature: Any) -> Any:
    """The feature with images and videos left as `{bytes, path}`."""
    import datasets

    if isinstance(feature, datasets.Image | datasets.Video):
        return type(feature)(decode=False)
    if isinstance(feature, datasets.List | datasets.LargeList):
        return type(feature)(_undecoded(feature.feature))
    if isinstance(feature, dict):
        return {key: _undecoded(part) for key, part in feature.items()}
    return feature


def _media_root(root: Path, default: Path, rows: Rows) -> Path:
    return existing(root, rows.media_root, "media_root") if rows.media_root else default
