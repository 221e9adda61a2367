"""Files that others gave us: where they may lie, what they hold, and folders that appear on disk all at once."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmrl.core.config import InputError
from mmrl.core.media.item import Media

Source = Media | str | Path | bytes  # a media item, the path of a file, or the content of one
Place = Path | bytes  # a file that exists, or its content

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RENAME_EXCHANGE = 2  # of Linux' renameat2
AT_FDCWD = -100


@dataclass
class Opened:
    """How many media were opened in this process, and how many bytes those have: what decoding costs follows it."""

    files: int = 0
    bytes: int = 0


opened = Opened()
watchers: list[set[str]] = []  # who wants to know which files are looked at: `data_engine.cache_keys.watching`


class MediaError(InputError):
    """A media file that cannot be used: `reason` is the code that is counted, the text says what would be right.

    Of any file: `remote`, `outside_root`, `missing`, `empty`, `unreadable`, `bomb`, `changed`. Of images: `truncated`.
    Of videos: `no_stream`, `no_index`, `unknown_codec`, `no_frames`, `cut` (frames are missing or damaged),
    `zero_duration`, `too_long`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, or the error could not cross a process boundary
        self.reason = reason

    def __str__(self) -> str:
        return self.args[1]


def resolve(path: str | Path, root: Path | None = None) -> Path:
    """The absolute path of an existing file; with a `root`, a file inside it after links are followed."""
    text = os.fspath(path)
    if REMOTE.match(text):
        raise MediaError("remote", f"{text:.200} is remote; download it and name the file")
    try:
        found = Path(os.path.realpath(text if root is None else root / text)) if text else None
    except ValueError:  # zero bytes, half of a character
        found = None
    if found is None:
        raise MediaError("missing", f"expected the path of a media file, got {text!r:.200}")
    look_at(found)
    if root is not None and not found.is_relative_to(os.path.realpath(root)):
        raise MediaError("outside_root", f"{text} lies outside {root}; put the file below that folder")
    try:
        if found.is_file():
            return found
    except OSError as error:
        raise MediaError("unreadable", f"{found}: {error.strerror}") from None
    raise MediaError("missing", f"no media file at {found}")


def look_at(path: Path) -> None:
    """Say that a file or folder is looked at, whether it is there or not."""
    for seen in watchers:
        seen.add(str(path))


def place_of(source: Source, root: Path | None = None) -> Place:
    """Where the content of `source` is: its bytes, or the file that `resolve` finds."""
    if isinstance(source, Media):
        source = source.bytes if source.bytes is not None else source.path or ""
    return source if isinstance(source, bytes) else resolve(source, root)


def name_of(place: Place) -> str:
    """What messages call a file."""
    return f"media of {len(place)} bytes" if isinstance(place, bytes) else str(place)


def open_place(place: Place) -> io.BytesIO | io.BufferedReader:
    """The content as an open binary file; a file of no bytes is an error."""
    try:
        file = io.BytesIO(place) if isinstance(place, bytes) else place.open("rb")
    except OSError as error:
        raise MediaError("unreadable", f"{name_of(place)}: {error.strerror}") from None
    size = file.seek(0, os.SEEK_END)
    if not size:
        file.close()
        raise MediaError("empty", f"{name_of(place)} is empty; get the file again")
    file.seek(0)
    opened.files, opened.bytes = opened.files + 1, opened.bytes + size
    return file


def sha256_of(place: Place) -> str:
    """The SHA-256 of the content, 64 hex digits, read in pieces."""
    with open_place(place) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def room_for(target: Path | None) -> Iterator[None]:
    """A full disk as one line of what to do: whatever is written here appears whole or not at all."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        why = f"no room to write {target} ({os.strerror(error.errno)})"
        raise InputError(
            f"{why}; make room and run it again: it goes on where it stopped; what was there before is as it was"
        ) from None


def put_in_place(new: Path, target: Path) -> None:
    """Make the folder `new` stand at `target`; a reader, or a kill at any moment, meets the old folder or the new one.

    Linux exchanges the two in one step. Elsewhere a kill may come between two renames: then `restore` brings the old
    folder back.
    """
    if not target.exists():
        new.rename(target)
    elif _exchanged(new, target):
        shutil.rmtree(new)
    else:
        exchange_by_renames(new, target)


def exchange_by_renames(new: Path, target: Path) -> None:
    """`put_in_place` for systems that cannot exchange two folders."""
    old = _aside(target)
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old)


def restore(target: Path) -> None:
    """Undo or finish what a killed `exchange_by_renames` left; nothing to do otherwise."""
    old = _aside(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and not renameat2(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )
