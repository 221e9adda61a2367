"""WebDataset: tar files in which the files of one sample stand together under one name, read as a stream."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.lines import plain_json
from data_engine.sources.rows import PLAIN_ROWS, Row, Rows, samples_of
from mmrl.config import InputError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
VIDEOS = ("mp4", "webm", "mkv", "mov", "avi")
TEXTS = {"txt": "question", "text": "question", "cls": "answer", "answer.txt": "answer"}
MAX_MEMBER = 2**30  # bytes of one file in a tar


def webdataset(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The samples of a tar file, or of all tar files of a folder: `0001.jpg` with `0001.json` (columns of a row).

    `NAME.txt` is the question and `NAME.cls` the answer where there is no JSON. Several pictures of one sample are
    `NAME.0.jpg`, `NAME.1.jpg`. Nothing is written to disk, and links are refused.
    """
    place = existing(root, path, "tar file or folder")
    files = sorted(place.rglob("*.tar")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"no *.tar file in {place}")
    folder = place if place.is_dir() else place.parent
    places = [(file, str(file.relative_to(root) if file.is_relative_to(root) else file)) for file in files]
    found = (row for file, name in places for row in _rows(file, name))
    return samples_of(found, rows, folder, "webdataset")


def _rows(file: Path, name: str) -> Iterator[Row]:
    """A row for each run of files that share a name up to the first dot after the folder."""
    key, values, error = None, dict[str, Any](), None
    try:
        with tarfile.open(file, "r|") as tar:
            for member in tar:
                if member.isdir():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if key is not None and key != (folder, stem):
                    yield _row(name, key, values, error)
                    values, error = {}, None
                key = (folder, stem)
                try:
                    _take(tar, member, suffix.lower(), values)
                except RowError as broken:
                    error = error or broken
    except (tarfile.TarError, EOFError, OSError) as broken:
        yield Row(name, {}, RowError("truncated", f"the tar file breaks off or is none: {broken}"))
        return
    if key is not None:
        yield _row(name, key, values, error)
    if not _is_closed(file):
        yield Row(name, {}, RowError("truncated", "the tar file has no end: files may be missing; get the whole of it"))


def _is_closed(file: Path) -> bool:
    """Whether a tar file ends in a block of zeros: tarfile takes one that is cut in a header for whole."""
    with file.open("rb") as content:
        size = content.seek(0, 2)
        content.seek(max(size - tarfile.BLOCKSIZE, 0))
        return size % tarfile.BLOCKSIZE == 0 and content.read() == bytes(tarfile.BLOCKSIZE)


def _row(name: str, key: tuple[str, str], values: dict[str, Any], error: RowError | None) -> Row:
    return Row(f"{name}: {'/'.join(filter(None, key))}", values, error)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, values: dict[str, Any]) -> None:
    """Put one file of a sample into its row."""
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise RowError("not_a_file", f"{member.name} is a link or a device; a sample holds plain files")
    if member.size > MAX_MEMBER:
        raise RowError("bomb", f"{member.name} has {member.size} bytes, the limit is {MAX_MEMBER}")
    last = suffix.rpartition(".")[2]
    if last in IMAGES or last in VIDEOS:
        values.setdefault("images" if last in IMAGES else "videos", []).append({"bytes": content.read()})
    elif suffix == "json":
        values.update(_object(member.name, content.read()))
    elif column := TEXTS.get(suffix):
        values.setdefault(column, content.read().decode("utf-8", "replace").strip())


def _object(name: str, text: bytes) -> dict[str, Any]:
    try:
        value = plain_json(text)
    except ValueError as error:
        raise RowError("bad_json", f"{name} is no JSON to use: {error}") from None
    if not isinstance(value, dict):
        raise RowError("bad_row", f"{name} must be an object with named values, got {value!r:.80}")
    return {key: item for key, item in value.items() if key not in ("image", "images", "video", "videos", "media")}
