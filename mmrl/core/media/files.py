"""Media files: where they may lie, how they are opened, and the error for files that cannot be used."""

from __future__ import annotations

import errno
import functools
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmrl.core.config import InputError, RunError
from mmrl.core.files import sha256_of
from mmrl.core.media.item import Media

Source = Media | str | Path | bytes  # a media item, the path of a file, or the content of one
Place = Path | bytes  # a file that exists, or its content
Stamp = tuple[int, int]

MACHINE = {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}  # faults of the machine
MAX_PIXELS = 89_478_485  # of a picture: where Pillow itself begins to warn
LARGEST = 12 * MAX_PIXELS  # bytes that decoding such a picture takes: as it is stored, turned, and in RGB

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")


@dataclass
class Opened:
    """How many media were opened in this process, and their bytes: the cost of decoding depends on both."""

    files: int = 0
    bytes: int = 0


opened = Opened()
watchers: list[set[str]] = []  # sets that collect the files that are looked at: `data_engine.cache_keys.watching`


class MediaError(InputError):
    """A media file that cannot be used: `reason` is the code that is counted, the text says how to put it right.

    Of any file: `remote`, `outside_root`, `missing`, `empty`, `unreadable`, `bomb`, `changed`. Of images: `truncated`.
    Of videos: `no_stream`, `no_index`, `unknown_codec`, `no_frames`, `cut` (frames are missing or damaged),
    `zero_duration`, `too_long`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, or the error could not cross a process boundary
        self.reason = reason

    def __str__(self) -> str:
        return self.args[1]


def check_machine(error: BaseException, name: str) -> None:
    """RunError if `error` is no fault of the file `name`: memory or open files are short, or a disk fails."""
    check_memory(error, name)
    if isinstance(error, OSError) and error.errno in MACHINE:
        raise _of_machine(name, os.strerror(error.errno)) from None


def check_memory(error: BaseException, name: str) -> None:
    """As `check_machine`, for memory alone: FFmpeg also calls damage in a file an error of input and output.

    A decoder that wants absurd amounts of memory for a damaged file raises a MemoryError, too. So it counts only where
    there is not even room for the largest picture that is allowed.
    """
    if isinstance(error, MemoryError):
        try:
            bytearray(LARGEST)
        except MemoryError:
            raise _of_machine(name, "memory is short") from None


def _of_machine(name: str, what: str) -> RunError:
    return RunError(
        f"{name} could not be read, which is no fault of the file ({what}); close other programs or take fewer "
        "workers, and run it again: it resumes where it stopped"
    )


def resolve(path: str | Path, root: Path | None = None, links: Sequence[Path] = ()) -> Path:
    """The absolute path of an existing file; with a `root`, a file inside it after links are followed.

    Links may also lead into one of the folders `links`, and from a snapshot of the Hugging Face cache to its blobs. A
    name that is written with `\\`, or with its accents composed in another way, finds its file.
    """
    text = os.fspath(path)
    if REMOTE.match(text):
        raise MediaError("remote", f"{text:.200} is remote; download it and name the file")
    try:
        file = _found(text if root is None else root / text) if text else None
    except ValueError:  # zero bytes, half of a character
        file = None
    if file is None:
        raise MediaError("missing", f"expected the path of a media file, got {text!r:.200}")
    look_at(file)
    if root is not None and not any(file.is_relative_to(os.path.realpath(place)) for place in _allowed(root, links)):
        right = "put the file below that folder, or name the folder that links lead to in rows.links"
        raise MediaError("outside_root", f"{text} lies outside {root}; {right}")
    try:
        if file.is_file():
            return file
    except OSError as error:
        check_machine(error, str(file))
        raise MediaError("unreadable", f"{file}: {error.strerror}") from None
    raise MediaError("missing", f"no media file at {file}")


def _found(path: str | Path) -> Path:
    """The real path of a name, in the spelling of the file that is there."""
    file, text = Path(os.path.realpath(path)), os.fspath(path)
    if os.path.exists(file) or ("\\" not in text and text.isascii()):  # unlike Path's, for a name that is too long, too
        return file
    for spelt in (text, text.replace("\\", "/")):
        place = Path(os.path.realpath(spelt))
        if os.path.exists(place) or os.path.exists(place := _composed(place)):
            return place
    return file


def _composed(path: Path) -> Path:
    """The path with each part as its folder spells it: "é" may be one character, or "e" and an accent."""
    place = Path(path.anchor)
    for part in path.parts[1:]:
        if not part.isascii() and not os.path.exists(place / part) and os.path.isdir(place):
            wanted = unicodedata.normalize("NFC", part)
            same = [name for name in os.listdir(place) if unicodedata.normalize("NFC", name) == wanted]
            part = same[0] if len(same) == 1 else part
        place /= part
    return Path(os.path.realpath(place))


def _allowed(root: Path, links: Sequence[Path]) -> Iterator[Path]:
    """The folders in which a file of `root` may really lie."""
    yield from (root, *links)
    real = Path(os.path.realpath(root))
    for place in (real, *real.parents):
        if place.parent.name == "snapshots":  # of a repository in the Hugging Face cache: its files are links to blobs
            yield place.parent.parent / "blobs"


def look_at(path: Path) -> None:
    """Report to the watchers that a file or folder is looked at, whether it exists or not."""
    for watched in watchers:
        watched.add(str(path))


def placed(media: Media, root: Path) -> Media:
    """The media of a dataset whose folder is `root`, with an absolute path; bytes stay as they are."""
    return media if media.path is None else replace(media, path=str(resolve(media.path, root)))


def place_of(source: Source, root: Path | None = None) -> Place:
    """Where the content of `source` is: its bytes, or the file that `resolve` finds."""
    if isinstance(source, Media):
        if source.bytes is None and not source.path:
            raise MediaError("missing", f"the {source.kind} has neither a path nor bytes; give it one")
        source = source.bytes if source.bytes is not None else source.path or ""
    return source if isinstance(source, bytes) else resolve(source, root)


def name_of(place: Place) -> str:
    """The name of a file in messages."""
    return f"media of {len(place)} bytes" if isinstance(place, bytes) else str(place)


def open_place(place: Place) -> io.BytesIO | io.BufferedReader:
    """The content as an open binary file; a file of no bytes is an error."""
    try:
        file = io.BytesIO(place) if isinstance(place, bytes) else place.open("rb")
    except OSError as error:
        check_machine(error, name_of(place))
        raise MediaError("unreadable", f"{name_of(place)}: {error.strerror}") from None
    size = file.seek(0, os.SEEK_END)
    if not size:
        file.close()
        raise MediaError("empty", f"{name_of(place)} is empty; get the file again")
    file.seek(0)
    opened.files, opened.bytes = opened.files + 1, opened.bytes + size
    return file


def content_hash(media: Media) -> str:
    """The SHA-256 of the present content of a media item; an unchanged file is read once per process."""
    place = place_of(media)
    return _hash(place, stamp(place))


def check_recorded(media: Media) -> None:
    """MediaError for a file that is not the one whose hash was recorded: it was replaced, or nobody ever hashed it."""
    if media.path is not None and (media.sha256 is None or content_hash(media) != media.sha256):
        raise MediaError("changed", f"{media.path} is not what was recorded: it has no hash, or another one")


def check_unchanged(media: Iterable[Media]) -> None:
    """MediaError for a file that was replaced since its hash was recorded; what has no hash is taken as it is."""
    for item in media:
        if item.sha256 is not None:
            check_recorded(item)


def stamp(place: Place) -> Stamp:
    """The time and size of a file, which change when it is written anew."""
    if isinstance(place, bytes):
        return 0, len(place)
    status = place.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4096)
def _hash(place: Place, _: Stamp) -> str:
    with open_place(place) as file:
        return sha256_of(file)
