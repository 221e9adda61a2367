"""Declarations in the headers of video containers, read without a decoder: FFmpeg repairs damage silently."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mmrl.core.media.files import Place, open_place

MAX_BOXES = 100_000  # of a file: a hostile one could hold a box in every eight bytes
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # names of the two outermost elements of Matroska
INNER = (b"moov",)  # boxes that hold boxes


class Box(NamedTuple):
    """A box of an MP4 file: its name, and where its content starts and, as its header says, ends."""

    name: bytes
    start: int
    end: int


def lacks_index(place: Place) -> bool:
    """Whether the file is an MP4 file without `moov`, the table that says where its frames are."""
    with open_place(place) as file:
        names = [box.name for box in _boxes(file)]
    return bool(names) and names[0] == b"ftyp" and b"moov" not in names


def declared_seconds(place: Place) -> float | None:
    """The duration that the movie header of an MP4 file declares; None for other files and where it declares none.

    In a fragmented file (`mvex`) the header gives at most the duration of the first fragment.
    """
    with open_place(place) as file:
        starts = {box.name: box.start for box in _boxes(file) if box.name in (b"mvhd", b"mvex")}
        content = _at(file, starts[b"mvhd"], 32) if b"mvhd" in starts else b""
    if len(content) < 32 or b"mvex" in starts:
        return None
    scale, units = struct.unpack(">IQ", content[20:32]) if content[0] == 1 else struct.unpack(">II", content[12:20])
    unknown = units in (0, 2**32 - 1, 2**64 - 1) or not scale
    return None if unknown else units / scale


def is_short(place: Place) -> bool:
    """Whether the file is an AVI or Matroska file that holds less than its outermost chunk declares."""
    with open_place(place) as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            declared = int.from_bytes(head[4:8], "little") + 8
        else:
            declared = _segment_end(file) if head[:4] == EBML else 0
        return declared > file.seek(0, io.SEEK_END)


def _segment_end(file: BinaryIO) -> int:
    """Where the segment after the head of a Matroska file ends; 0 where the file does not say."""
    start, size = _element(file, 4)
    if _at(file, start + (size or 0), 4) != SEGMENT:
        return 0
    start, size = _element(file, start + (size or 0) + 4)
    return start + size if size else 0


def _element(file: BinaryIO, at: int) -> tuple[int, int | None]:
    """(start of the content, its size) of an element whose size is written there: as many leading zero bits as bytes
    follow, then a one; all ones: not known."""
    head = _at(file, at, 8)
    more = 8 - head[0].bit_length() if head and head[0] else 0
    value = int.from_bytes(head[: more + 1]) & ((1 << 7 * (more + 1)) - 1)
    return at + more + 1, None if value + 1 == 1 << 7 * (more + 1) else value


def _boxes(file: BinaryIO) -> Iterator[Box]:
    """The boxes of a file in order, with those of `moov` after it; bytes that are not a box end them."""
    size, at = file.seek(0, io.SEEK_END), 0
    for _ in range(MAX_BOXES):
        head = _at(file, at, 16)
        if len(head) < 8 or not head[4:8].isalnum():
            return
        length, start = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16]), at + 16
        end = at + length if length else size  # 0: to the end of the file
        if end < start:
            return
        yield Box(head[4:8], start, end)
        at = start if head[4:8] in INNER else end


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(min(position, 2**62))
    return file.read(count)
