"""Damage that Pillow does not report: pictures with a missing part, and files made to decode for ever."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mmrl.core.config import InputError

PIECE = 2**20  # bytes that are read at a time
LONGEST = 2**29  # bytes of a JPEG file that are read; the largest allowed picture takes less
MAX_SCANS = 64  # of a progressive JPEG: encoders write 10, and each is a pass over the whole picture
START_OF_SCAN = b"\xff\xda"
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd8])")  # of JPEG, followed by a length; the end marker, D9, is not
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
ADAM7 = (  # of each pass: first column and row, and the steps
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
LEAST_ZEROS = 512  # bytes in one piece that a packed picture does not hold
ZEROS = re.compile(rb"\x00{512,}")
JPEG_GRAVE = {
    "remature end": "truncated",
    "ad Huffman": "unreadable",
}  # the warnings of libjpeg that count; cameras cause others

Fault = tuple[str, str]  # code and message


def has_many_scans(file: BinaryIO) -> bool:
    """Whether a JPEG file asks for more than `MAX_SCANS` passes over the picture."""
    file.seek(0)
    content = file.read(LONGEST)
    if content.count(START_OF_SCAN) <= MAX_SCANS:  # the usual case; a thumbnail or video in the file may hold more
        return False
    at, count = 2, 0
    while (marker := MARKER.search(content, at)) and marker[1] != b"\xd9":
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
        count += marker[1] == START_OF_SCAN[1:]
    return count > MAX_SCANS


def jpeg_fault(file: BinaryIO) -> Fault | None:
    """The fault that libjpeg reports when it decodes the whole file; at an eighth of its size, which is faster."""
    try:
        import simplejpeg
    except ImportError:
        raise InputError("probing JPEG files takes simplejpeg: pip install 'mmrl-stack[data]'") from None
    file.seek(0)
    content = file.read(LONGEST)
    try:
        simplejpeg.decode_jpeg(content, colorspace="GRAY", min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:  # also of formats that it does not read; Pillow decides about those
        return next(((code, str(error)) for words, code in JPEG_GRAVE.items() if words in str(error)), None)
    return None


def png_fault(file: BinaryIO) -> Fault | None:
    """A chunk whose checksum is wrong, or fewer pixels than the header declares."""
    file.seek(8)
    expected, unpacked, packed = math.inf, 0, zlib.decompressobj()
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        name, left, check = head[4:], int.from_bytes(head[:4]), zlib.crc32(head[4:])
        header = b""
        while left and (piece := file.read(min(left, PIECE))):
            left, check = left - len(piece), zlib.crc32(piece, check)
            header = header or piece
            if name == b"IDAT":
                unpacked += _unpacked(packed, piece, expected - unpacked)
        stated = file.read(4)
        if left or len(stated) < 4:
            break
        if name[:1].isupper() and stated != check.to_bytes(4):
            return "unreadable", f"the checksum of its chunk {name.decode('latin1')} is wrong"
        if name == b"IHDR":
            expected = _packed_bytes(header)
    return None if unpacked >= expected else ("truncated", f"{unpacked} of {expected} bytes of its pixels are there")


def _unpacked(packed: zlib._Decompress, piece: bytes, most: float) -> int:
    """The number of bytes that a piece unpacks to, at most `most`."""
    count = 0
    while piece and count < most and (made := len(packed.decompress(piece, PIECE))):
        count, piece = count + made, packed.unconsumed_tail
    return count


def _packed_bytes(header: bytes) -> int:
    """The number of bytes of all rows of a PNG with their filter types, before compression."""
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    bits, interlaced = header[8] * CHANNELS.get(header[9], 1), header[12]
    passes: Iterator[tuple[int, int]] = iter([(width, height)])
    if interlaced:
        passes = ((-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in ADAM7)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in passes if columns > 0 and rows > 0)


def zeros_fault(file: BinaryIO) -> Fault | None:
    """A quarter of a packed file that is zeros, as where a download reserved its place and broke off.

    Decoders of WebP, AVIF and MPEG-4 in AVI paint over it.
    """
    size, longest, run = file.seek(0, os.SEEK_END), 0, 0
    file.seek(0)
    while piece := file.read(PIECE):
        begins, ends = (len(piece) - len(strip(b"\0")) for strip in (piece.lstrip, piece.rstrip))
        longest = max(longest, run + begins, *map(len, ZEROS.findall(piece)), 0)
        run = run + begins if begins == len(piece) else ends
    longest = max(longest, run)
    whole = longest < max(LEAST_ZEROS, size // 4)
    return None if whole else ("truncated", f"{longest:,} of {size:,} bytes are zeros in one piece")


FAULTS = {"JPEG": jpeg_fault, "MPO": jpeg_fault, "PNG": png_fault, "WEBP": zeros_fault, "AVIF": zeros_fault}
