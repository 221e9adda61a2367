"""Real H.264 files for tests: a window wandering over a photograph, one frame unlike the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from sklearn.datasets import load_sample_image

MILLISECOND = Fraction(1, 1000)


@functools.cache
def _photo() -> np.ndarray:
    return load_sample_image("china.jpg")


def picture(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Frame `index` of every clip, uint8 [height, width, 3]."""
    photo = _photo()
    y, x = index * 3 % (photo.shape[0] - height), index * 5 % (photo.shape[1] - width)
    return np.ascontiguousarray(photo[y : y + height, x : x + width])


def write_clip(
    path: Path,
    frames: int = 50,
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    fps: int = 25,
    tick: Fraction = MILLISECOND,
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    pixel_format: str = "yuv420p",
    codec_options: dict[str, str] | None = None,
    mux_options: dict[str, str] | None = None,
) -> Path:
    """A video of `frames` frames, shown at `times` (milliseconds; default: evenly), which are written in ticks.
    `aspect` is the width of a pixel over its height."""
    with av.open(path, "w", options=mux_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=_repeatable(codec, codec_options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = tick
        stream.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = times[index] if times else index * 1000 // fps
            frame.time_base = MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _repeatable(codec: str, options: dict[str, str]) -> dict[str, str]:
    """Encoder options with which the same frames give the same bytes: x264's macroblock tree reads memory that nobody
    wrote where a row of macroblocks is no multiple of eight."""
    if codec != "libx264":
        return options
    params = [options.get("x264-params", ""), "mbtree=0"]
    return {"threads": "1", **options, "x264-params": ":".join(filter(None, params))}


def cut_at_start(source: Path, target: Path, seconds: float) -> Path:
    """The clip from `seconds` on, without encoding: an edit list hides the frames since the last key frame."""
    with av.open(str(source)) as old, av.open(target, "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        assert stream.time_base
        shift = int(seconds / stream.time_base)
        old.seek(shift, stream=stream)
        for packet in old.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                new.mux(packet)
    return target


def write_audio(path: Path) -> Path:
    """A second of sound without a picture."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000)
        assert isinstance(stream, AudioStream)
        silence = np.zeros((1, 1024), np.float32)
        for start in range(0, 16384, 1024):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
