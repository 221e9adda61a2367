"""The rows of a benchmark's own files: parquet, TSV, CSV, JSON or JSON lines, local or in the hub's cache."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.core.files import sha256_of

SUFFIXES = (".parquet", ".tsv", ".csv", ".jsonl", ".json")
_MAX_FIELD = 2**27  # characters of one field: an image of 96 MB
_COMMIT = re.compile(r"[0-9a-f]{40}")


def files_of(path: str | None, revision: str | None, hub: str, split: str, folders: Collection[str] = ()) -> list[Path]:
    """The files to read below `path` (a file or a directory), or in the hub dataset at the commit `revision`, which is
    in the local cache. Of a directory: those in `folders`, and of those the ones named after the split, if any."""
    root = _cached(hub, revision) if path is None else Path(path)
    if root.is_file():
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix in SUFFIXES) if root.is_dir() else []
    files = [file for file in files if {*file.relative_to(root).parts[:-1]} & {*folders}] or files
    files = [file for file in files if split and _of_split(file, split)] or files
    if not files:
        raise InputError(f"{root} is not a file or a directory with files ({', '.join(SUFFIXES)}); put {hub} there")
    return files


def fingerprint_of(files: list[Path]) -> str:
    """The hash of the files' contents: 16 hex digits."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(bytes.fromhex(sha256_of(file)))
    return whole.hexdigest()[:16]


def rows_of(files: list[Path], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of all files; InputError if a row lacks one of `columns`."""
    for file in files:
        for number, row in enumerate(_rows(file), 1):
            if missing := [name for name in columns if name not in row]:
                raise InputError(
                    f"{file} row {number} has no {', '.join(missing)}; it has {', '.join(map(str, row))}: "
                    "another benchmark, or another layout of this one"
                )
            yield row


def decoded_image(value: Any) -> Any:
    """A cell of a TSV file: base64 is decoded to bytes, anything else stays."""
    if not isinstance(value, str) or len(value) < 64:
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return value


def _of_split(file: Path, split: str) -> bool:
    return bool(re.search(rf"(?:^|(?<!non)[-_./]){re.escape(split)}(?:[-_./]|$)", file.stem))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as parquet

        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    elif file.suffix in (".tsv", ".csv"):
        yield from _table_rows(file)
    else:
        yield from _json_rows(file)


def _table_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a TSV or CSV file. As in VLMEvalKit, a cell may hold the index of an earlier row with the image."""
    csv.field_size_limit(_MAX_FIELD)
    pictures: dict[str, bytes] = {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","):
            if "image" in row:
                image = decoded_image(row["image"])
                if isinstance(image, bytes):
                    pictures[row.get("index", "")] = image
                row["image"] = pictures.get(image, image) if isinstance(image, str) else image
            yield row


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    text = file.read_text(encoding="utf-8-sig")
    try:
        if file.suffix == ".jsonl":
            values: Any = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    if isinstance(values, Mapping) and isinstance(values.get("images"), list):  # Karpathy's splits
        values = values["images"]
    elif isinstance(values, Mapping):  # MathVista and others: {"1": {...}, "2": {...}}
        values = [{"key": key, **value} if isinstance(value, dict) else value for key, value in values.items()]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{file} does not hold a list of objects")
    yield from values


def _cached(hub: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not revision or not _COMMIT.fullmatch(revision):
        raise InputError(f"revision {revision!r}: give the path of {hub}, or the 40 hex digits of one of its commits")
    try:
        return Path(snapshot_download(hub, repo_type="dataset", revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{hub} at {revision} is not in the cache; hf download {hub} --repo-type dataset --revision {revision}"
        ) from None
