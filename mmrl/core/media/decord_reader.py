"""The optional reader decord: it gives the same bytes as PyAV, for the files that it reads correctly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError, Place, name_of
from mmrl.core.media.frames import FrameTable
from mmrl.core.media.item import Media

try:
    import decord
except ImportError:
    raise InputError("the video reader decord is missing: pip install 'mmrl-stack[decord]', or use pyav") from None

CODECS = {"h264", "vp8", "vp9"}  # of these both readers give the same bytes; of MPEG-4 and of 10 bits they do not
PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


def reads_right(media: Media, table: FrameTable) -> bool:
    """Whether decord shows the right frames of a file, and comes to an end.

    It hangs where a frame does not decode, so probing must have decoded all of them. It lands next to the frame that
    was asked for where groups of pictures are open or frames hidden, and does not stretch pixels that are not square.
    """
    known = table.codec in CODECS and table.pixel_format in PIXELS
    return known and table.plain and table.aspect == 1 and media.num_frames == len(table.times)


def decord_frames(place: Place, table: FrameTable, positions: list[int]) -> np.ndarray:
    """The frames at ascending positions, uint8 [T, height, width, 3]."""
    try:  # one thread: workers are processes here
        reader = decord.VideoReader(str(place) if isinstance(place, Path) else io.BytesIO(place), num_threads=1)
        if len(reader) != len(table.times):
            raise MediaError(
                "unreadable", f"{name_of(place)}: decord counts {len(reader)} of {len(table.times)} frames"
            )
        return reader.get_batch(positions).asnumpy()
    except decord.DECORDError as error:
        raise MediaError("unreadable", f"{name_of(place)}: decord: {error}; use pyav") from None
