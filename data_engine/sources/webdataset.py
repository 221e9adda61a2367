"""WebDataset: tar files in which the files of one sample follow each other under one name, read as a stream."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.json_lines import plain_json
from data_engine.sources.row_format import PLAIN_ROWS, Row, Rows, samples_of
from data_engine.sources.row_media import IMAGES, MEDIA_COLUMNS, SOUNDS, VIDEOS
from data_engine.sources.tables import refuse_at
from mmrl.core.config import InputError

TEXTS = {"txt": "question", "text": "question", "cls": "answer", "answer.txt": "answer"}  # unless `rows` says otherwise
PLAIN = re.compile(r"(?:\d+\.)?\w+")  # suffixes of what is shown: jpg, 0.jpg, 1.jpg
MAX_SAMPLE = 2**30  # bytes of the files of one sample
DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError)  # of broken headers


class Part(NamedTuple):
    """A file of a sample: `x/0001.0.jpg` has the key ("x", "0001") and the suffix "0.jpg"."""

    key: tuple[str, str]
    suffix: str
    member: tarfile.TarInfo


def webdataset(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The samples of a tar file, or of all tar files of a folder: `0001.jpg` with `0001.json` (columns of a row).

    Without JSON, `NAME.txt` is the question and `NAME.cls` the answer; every text is also a column called by its
    suffix, so that `columns: {answer: txt}` reads captions. Several pictures of one sample are `NAME.0.jpg`,
    `NAME.1.jpg`, in the order of their numbers. Others, as `NAME.mask.png`, are columns called by their suffix: name
    them in `columns`, or in `ignore`. Nothing is written to disk, and links are refused.
    """
    refuse_at(rows, "webdataset")
    place = existing(root, path, "tar file or folder")
    files = sorted(place.rglob("*.tar")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"no *.tar file in {place}")
    folder = place if place.is_dir() else place.parent
    places = [(file, str(file.relative_to(root) if file.is_relative_to(root) else file)) for file in files]
    all_rows = (row for file, name in places for row in _rows(file, name, rows))
    return samples_of(all_rows, rows, folder, "webdataset")


def _rows(file: Path, name: str, form: Rows) -> Iterator[Row]:
    """A row for each run of files that share a name up to the first dot after the folder."""
    try:
        scattered = _scattered(file)
        with tarfile.open(file, "r|") as tar:
            for key, parts in itertools.groupby(_parts(tar), key=lambda part: part.key):
                values, error = dict[str, Any](), None
                try:
                    if hash(key) in scattered:
                        raise RowError("scattered", "its files are apart in the tar file; pack them by name")
                    _fill(values, tar, parts, form)
                except RowError as broken:
                    error = broken
                yield Row(f"{name}: {'/'.join(filter(None, key))}", values, error)
            end = tar.offset
    except DAMAGED as broken:
        yield Row(name, {}, RowError("truncated", f"the tar file is cut off, or not a tar file: {broken}"))
        return
    if error := _unread(file, end):
        yield Row(name, {}, error)


def _parts(tar: tarfile.TarFile) -> Iterator[Part]:
    """The files of a tar file in order, without hidden ones: `._0001.jpg` holds metadata of macOS about 0001.jpg."""
    end, size = 0, os.path.getsize(str(tar.name))
    while member := tar.next():
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  # which grows with the file otherwise
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not member.isdir() and not base.startswith("."):
            yield Part((folder, stem), suffix.lower(), member)
        if not end < tar.offset <= size:  # or tarfile would go round in circles, or read on for days
            raise tarfile.ReadError(f"{member.name} does not end in the file")
        end = tar.offset


def _scattered(file: Path) -> set[int]:
    """The hashes of the keys whose files do not follow each other, from the headers alone."""
    known, scattered = set[int](), set[int]()
    with contextlib.suppress(MemoryError, *DAMAGED), tarfile.open(file, "r:") as tar:  # whoever reads it all says why
        for key, _ in itertools.groupby(_parts(tar), key=lambda part: part.key):
            (scattered if hash(key) in known else known).add(hash(key))
    return scattered


def _unread(file: Path, at: int) -> RowError | None:
    """The fault of the end of a tar file, from byte `at` on: it should be one or more blocks of zeros.

    tarfile stops at a damaged header, as at the first block of zeros.
    """
    start = at
    with file.open("rb") as content:
        content.seek(at)
        for piece in iter(lambda: content.read(2**20), b""):
            if rest := piece.lstrip(b"\0"):
                why = f"from byte {at + len(piece) - len(rest)} on the tar file cannot be read: a damaged header, or a"
                right = "second tar file after the first; get the file again, or leave the two apart"
                return RowError("truncated", f"{why} {right}")
            at += len(piece)
    if at - start >= tarfile.BLOCKSIZE and at % tarfile.BLOCKSIZE == 0:
        return None
    return RowError("truncated", "the tar file has no end, so files may be missing; download it again")


def _fill(values: dict[str, Any], tar: tarfile.TarFile, parts: Iterable[Part], form: Rows) -> None:
    """Put the files of a sample into its row, pictures and videos in natural order of their names."""
    size, media, texts, seen = 0, dict[str, list[tuple[str, Any]]](images=[], videos=[]), dict[str, str](), set[str]()
    mapped = {column for name in form.columns for column in form.named(name)}
    for part in parts:
        member, last = part.member, part.suffix.rpartition(".")[2]
        content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None:
            kinds = "a link, a device or a sparse file"
            raise RowError("not_a_file", f"{member.name} is {kinds}; a sample holds plain files, stored whole")
        size += member.size
        if size > MAX_SAMPLE:
            raise RowError("bomb", f"with {member.name} the sample has {size} bytes, the limit is {MAX_SAMPLE}")
        if part.suffix in seen:
            raise RowError(
                "twice", f"{member.name} is in the tar file twice; pack it anew, each file under its own name"
            )
        seen.add(part.suffix)
        if part.suffix in form.ignore:
            continue
        if last in IMAGES or last in VIDEOS:
            held = {"bytes": content.read(), "path": member.name}
            if PLAIN.fullmatch(part.suffix) and part.suffix not in mapped:
                media["images" if last in IMAGES else "videos"].append((part.suffix, held))
            else:
                values[part.suffix] = held  # which `rows` names, or which is refused as unread
        elif last in SOUNDS:
            values[part.suffix] = member.name  # refused where nothing else is shown
        elif part.suffix == "json":
            values.update(_object(member.name, content.read()))
        elif last == "json":
            why = f"a sample is named up to the first dot, so {member.name} is a part of {part.key[1]}"
            raise RowError("dotted_name", f"{why}; rename the files without dots in their names")
        elif part.suffix in TEXTS or part.suffix in mapped:
            texts[part.suffix] = content.read().decode("utf-8", "replace").strip()
    for suffix, text in texts.items():
        values.setdefault(suffix if suffix in mapped else TEXTS[suffix], text)
    named = max(_count(values.pop(column, None)) for column in MEDIA_COLUMNS)
    count = sum(suffix.rpartition(".")[2] in (*IMAGES, *VIDEOS) for suffix in seen - {*form.ignore})
    if named > count:
        why = f"the JSON names {named} pictures or videos, and the tar file holds {count} under its name"
        raise RowError("missing", f"{why}; the files of one sample have the same name up to the first dot")
    for column, files in media.items():
        if files:
            values[column] = [held for _, held in sorted(files, key=lambda file: _natural(file[0]))]


def _natural(suffix: str) -> tuple[str, str]:
    """A sort key for suffixes, by the numbers in them; a suffix without a stem is the first.

    >>> sorted(["10.png", "png", "2.png"], key=_natural)
    ['png', '2.png', '10.png']
    """
    stem, _, last = suffix.rpartition(".")
    return re.sub(r"\d+", lambda digits: digits[0].zfill(20), stem), last


def _count(named: Any) -> int:
    """How many files a media column of a JSON names."""
    return sum(map(bool, named if isinstance(named, list) else [named]))


def _object(name: str, text: bytes) -> dict[str, Any]:
    try:
        value = plain_json(text)
    except ValueError as error:
        raise RowError("bad_json", f"{name} is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise RowError("bad_row", f"{name} must be an object with named values, got {value!r:.80}")
    return value
