"""Videos made of pictures, those in a folder in the order of the numbers in their names."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media

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
    """An H.264 file with the pictures in files as frames, `rate` a second; the same pictures give the same bytes."""
    return _film(tuple((str(file), file.stat().st_mtime_ns) for file in files), rate)


@functools.lru_cache(maxsize=8)  # questions about one video follow each other
def _film(files: tuple[tuple[str, int], ...], rate: float) -> bytes:
    return _encoded(((name, load_image(name)) for name, _ in files), rate)


def as_video(frames: Sequence[Image.Image], rate: float) -> Media:
    """Pictures of one size as a video in memory, `rate` of them a second; the same pictures give the same bytes."""
    content = _encoded(((f"frame {number}", frame) for number, frame in enumerate(frames)), rate)
    width, height = frames[0].size
    measures: dict[str, Any] = {"num_frames": len(frames), "fps": rate, "duration": len(frames) / rate}
    return Media("video", bytes=content, width=width, height=height, **measures)


def _encoded(pictures: Iterable[tuple[str, Image.Image]], rate: float) -> bytes:
    """An H.264 file of named pictures."""
    import av
    from av.video.stream import VideoStream

    content, size = io.BytesIO(), None
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options=X264)
        assert isinstance(stream, VideoStream)
        for name, picture in pictures:
            if size is None:
                size = picture.size
                stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"  # sides may be odd
            if picture.size != size:
                raise MediaError("unreadable", f"{name} has another size than the frames before it; scale it to {size}")
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return content.getvalue()
