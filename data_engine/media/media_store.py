"""Media files kept under the hash of their content."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrl.core.media.files import MediaError, Place, name_of, open_place, place_of
from mmrl.core.media.item import Media
from mmrl.core.media.kept import suffix_of

PIECE = 2**20


class MediaStore:
    """Copies media into `folder/media/<sha256[:2]>/<sha256>.<suffix>`, each content once; or into the samples.

    Media left there by a killed run are not copied again. Several threads may call `add`.
    """

    def __init__(self, folder: Path, root: Path | None, *, embed: bool) -> None:
        self._folder, self._root, self._embed = folder, root, embed
        self._sizes: dict[str, int] = {}
        self._paths: dict[str, str] = {}
        self._found = dict(_whole(folder))

    def add(self, media: Media) -> Media:
        """The media as it is stored: with its hash, and a path relative to the folder or its bytes."""
        if not self._embed and media.sha256 in self._found:
            path = self._found.pop(media.sha256, None)  # another thread may have been faster
            if path is not None:
                self._sizes[media.sha256] = path.stat().st_size
                self._paths[media.sha256] = path.relative_to(self._folder).as_posix()
        if not self._embed and media.sha256 in self._paths:
            return replace(media, path=self._paths[media.sha256], bytes=None)
        place = place_of(media, self._root)
        if self._embed:
            with open_place(place) as file:
                content = file.read()
            sha256 = _checked(hashlib.sha256(content).hexdigest(), media, place)
            self._sizes[sha256] = len(content)
            return replace(media, path=None, bytes=content, sha256=sha256)
        sha256 = self._copied(place, media)
        return replace(media, path=self._paths[sha256], bytes=None, sha256=sha256)

    def prune(self) -> None:
        """Remove media left by a killed run that this run has not added."""
        for path in self._found.values():
            path.unlink()
        self._found.clear()
        for folder in (self._folder / "media").glob("*"):
            if not any(folder.iterdir()):
                folder.rmdir()

    def summary(self) -> dict[str, Any]:
        """How many different files there are, how large, and where."""
        return {"files": len(self._sizes), "bytes": sum(self._sizes.values()), "embedded": self._embed}

    def _copied(self, place: Place, media: Media) -> str:
        arriving = self._folder / "media" / f"arriving.{threading.get_ident()}"
        arriving.parent.mkdir(parents=True, exist_ok=True)
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with arriving.open("wb") as copy:
                for piece in _pieces(place):
                    head = head or piece[:16]
                    size += copy.write(piece)
                    digest.update(piece)
            sha256 = _checked(digest.hexdigest(), media, place)
            path = self._paths.get(sha256, f"media/{sha256[:2]}/{sha256}.{_suffix(head, place)}")
            (self._folder / path).parent.mkdir(exist_ok=True)
            arriving.replace(self._folder / path)
        finally:
            arriving.unlink(missing_ok=True)
        self._sizes[sha256] = size
        self._paths[sha256] = path  # last, because from now on other threads refer to it
        return sha256


def _whole(folder: Path) -> Iterator[tuple[str, Path]]:
    """(SHA-256, file) of the media that lie below the folder already; unfinished copies are removed."""
    for path in (folder / "media").glob("*"):
        if path.is_file():
            path.unlink()
    for path in (folder / "media").glob("*/*"):
        yield path.name.partition(".")[0], path


def _pieces(place: Place) -> Iterator[bytes]:
    with open_place(place) as file:
        while piece := file.read(PIECE):
            yield piece


def _checked(sha256: str, media: Media, place: Place) -> str:
    if media.sha256 not in (None, sha256):
        raise MediaError("changed", f"{name_of(place)} has changed since it was probed; leave it alone during a build")
    return sha256


def _suffix(head: bytes, place: Place) -> str:
    """The suffix by content, so that equal files have equal names; else that of the file."""
    if suffix := suffix_of(head):
        return suffix
    named = re.fullmatch(r"\.([a-z0-9]{1,5})", place.suffix.lower()) if isinstance(place, Path) else None
    return named[1] if named else "bin"
