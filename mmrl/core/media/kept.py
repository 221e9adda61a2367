"""Media in the folder of a run: content without a file gets one there, and is found where the folder lies now.

A record names media by path. Absolute paths are those of the data; relative ones begin in the folder of the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrl.core.files import sha256_of, write_atomic
from mmrl.core.media.files import REMOTE
from mmrl.core.media.item import Media

FOLDER = "media"  # of what the samples of a run hold as bytes
SIGNATURES = (  # (bytes, where they stand in the file, suffix)
    (b"\xff\xd8\xff", 0, "jpg"),
    (b"\x89PNG\r\n\x1a\n", 0, "png"),
    (b"GIF8", 0, "gif"),
    (b"WEBP", 8, "webp"),
    (b"AVI ", 8, "avi"),
    (b"ftypavif", 4, "avif"),
    (b"ftyp", 4, "mp4"),
    (b"\x1aE\xdf\xa3", 0, "mkv"),
    (b"BM", 0, "bmp"),
)


def kept(media: Media, run: Path, folder: str = FOLDER) -> Media:
    """The media without its bytes: they are in a file below `folder` of the `run`, named by their content and written
    once. The path of a media that has a file already is made absolute."""
    if media.bytes is None:
        return replace(media, path=os.path.abspath(str(media.path))) if _relative(media) else media
    digest = sha256_of(media.bytes)
    place = Path(folder, f"{digest[:32]}.{suffix_of(media.bytes) or 'bin'}")
    if not (run / place).exists():
        write_atomic(run / place, media.bytes)
    return replace(media, bytes=None, path=place.as_posix(), sha256=digest)


def kept_rows(media: Iterable[Media], run: Path, folder: str = FOLDER) -> list[dict[str, Any]]:
    """The rows of `kept` media."""
    return [kept(item, run, folder).row() for item in media]


def located(rows: Sequence[Mapping[str, Any]], run: Path) -> list[Media]:
    """The media of the rows in a record of the `run`."""
    media = map(Media.from_row, rows)
    return [replace(item, path=str(run / str(item.path))) if _relative(item) else item for item in media]


def _relative(media: Media) -> bool:
    return media.path is not None and not os.path.isabs(media.path) and not REMOTE.match(media.path)


def suffix_of(content: bytes) -> str:
    """The suffix that the first bytes of an image or video call for; "" for other content."""
    found = (suffix for signature, at, suffix in SIGNATURES if content[at : at + len(signature)] == signature)
    return next(found, "")
