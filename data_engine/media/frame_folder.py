"""Folders of frames: the pictures of a video as files, in the order of the numbers in their names."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_image

# One thread, and no macroblock tree: x264 decides by memory it never wrote there, and the same frames give other bytes.
X264 = {"crf": "12", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}


def frames_in(folder: Path, suffixes: Collection[str]) -> list[str]:
    """The names of the pictures in a folder, `2.jpg` before `10.jpg`; hidden files are left out."""
    names = (entry.name for entry in folder.iterdir() if entry.suffix.lower()[1:] in suffixes)
    return sorted((name for name in names if not name.startswith(".")), key=natural)


def natural(name: str) -> tuple[str, str]:
    """A sort key by the numbers in a name.

    >>> sorted(["b10", "b9", "b1"], key=natural)
    ['b1', 'b9', 'b10']
    """
    return re.sub(r"\d+", lambda digits: digits[0].zfill(20), name), name


def film_of(files: Sequence[Path], rate: float) -> bytes:
    """An H.264 file with the pictures as frames, `rate` a second; the same pictures give the same bytes."""
    return _film(tuple((str(file), file.stat().st_mtime_ns) for file in files), rate)


@functools.lru_cache(maxsize=8)  # questions about one video follow each other
def _film(files: tuple[tuple[str, int], ...], rate: float) -> bytes:
    import av
    from av.video.stream import VideoStream

    content, size = io.BytesIO(), None
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options=X264)
        assert isinstance(stream, VideoStream)
        for name, _ in files:
            picture = load_image(name)
            if size is None:
                size = picture.size
                stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"  # sides may be odd
            if picture.size != size:
                raise MediaError("unreadable", f"{name} has another size than the frames before it; scale it to {size}")
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return content.getvalue()
