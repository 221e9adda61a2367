"""PyAV: the table of a video's frames, made without decoding, and the decoded frames at given places of it."""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmrl.core.config import InputError
from mmrl.core.media.container_headers import is_short, lacks_index
from mmrl.core.media.files import MediaError, Place, check_memory, name_of, open_place

try:
    import av
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.stream import Disposition
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError:
    raise InputError("videos are read with PyAV: pip install 'mmrl-stack[data]'") from None

FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif"  # a playlist would make FFmpeg open other files
CLEAN_KEYS = {"vp8", "vp9", "av1"}  # codecs whose every key frame starts afresh; H.264's are looked at one by one

# Titles that are not UTF-8 are no reason to refuse a video. PyAV 19 takes them as they are, and no longer the option.
LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
MAX_FRAME_PIXELS = 2**25  # 8K; a decoder may hold seventeen frames at once
MAX_FRAMES = 1_000_000
MAX_SECONDS = 6 * 3600.0
ROUNDING = 1e-3  # seconds: Matroska and others round the stamps of frames to milliseconds
HEADER_SLACK = 0.5  # seconds by which the duration in a Matroska header may exceed its content


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The frames of a video in the order in which they are shown.

    `times` are seconds after the first frame. `pts` are the file's own time stamps, None where it does not give each
    frame its own. Decoding may start at the positions `restarts`. `plain`: every key frame is one of them,
    and the file hides no frame (edit lists do). `aspect` is the width of a stored pixel over its height.
    """

    times: list[float]
    fps: float
    pts: list[int] | None
    restarts: list[int]
    plain: bool
    aspect: Fraction
    codec: str
    pixel_format: str

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return len(self.times) / self.fps

    @property
    def even(self) -> bool:
        """Whether every frame comes within half a frame of its place on the even grid of the mean rate."""
        return all(abs(time * self.fps - place) <= 0.5 for place, time in enumerate(self.times))

    @property
    def steady(self) -> bool:
        """Whether all frames stay on the screen for the same time, but for the rounding of their stamps."""
        gaps = [after - before for before, after in pairwise(self.times)]
        return not gaps or max(gaps) - min(gaps) <= 2 * ROUNDING

    def shown_at(self, seconds: float) -> int:
        """The position of the frame on the screen at that time."""
        return max(bisect_right(self.times, seconds + ROUNDING) - 1, 0)

    def position_of(self, index: int) -> int:
        """The position of the frame on the screen at `index / fps` seconds."""
        return min(index, len(self.times) - 1) if self.steady else self.shown_at(index / self.fps)


def frame_table(place: Place) -> FrameTable:
    """The frames that the packets of a file announce; MediaError for a file that is cut off, endless or not a video."""
    name = name_of(place)
    with open_video(place) as (container, stream):
        frames, keys, hidden, end = _packets(container, stream, name)
        if not frames:
            raise MediaError("no_frames", f"{name} has a video stream without frames; get the file again")
        if is_short(place):
            raise MediaError("cut", f"{name} holds less than its first bytes declare; get the whole file")
        _check_whole(container, stream, len(frames) + hidden, end, name)
        stored = container.format.name != "avi"  # AVI stores none: FFmpeg counts packets, in the order of decoding
        pts = _distinct([pts for pts, _ in frames]) if stored else None
        stamps = pts or _distinct([dts for _, dts in frames])
        if len(frames) > 1 and len(decoding := {dts for _, dts in frames}) == 1 and None not in decoding:
            raise MediaError("zero_duration", f"{name} shows its {len(frames)} frames all at one time; encode it again")
        times = (
            [float((stamp - stamps[0]) * stream.time_base) for stamp in stamps] if stamps and stream.time_base else []
        )
        fps = _mean_rate(times, float(stream.average_rate or 0))
        times = times or [index / fps for index in range(len(frames))]
        if max(times[-1], len(times) / fps) > MAX_SECONDS:
            raise MediaError(
                "too_long", f"{name} lasts {times[-1]:.0f} seconds, the limit is {MAX_SECONDS:.0f}; cut it"
            )
        clean = [key for key, afresh in keys if afresh and key is not None]
        return FrameTable(
            times=times,
            fps=fps,
            pts=pts,
            restarts=sorted({0, *(bisect_left(pts, key) for key in clean)}) if pts else [0],
            plain=pts is not None and not hidden and len(clean) == len(keys) and len(container.streams.video) == 1,
            aspect=_aspect(stream),
            codec=stream.codec_context.name,
            pixel_format=stream.codec_context.pix_fmt or "",
        )


def decoded(place: Place, table: FrameTable, positions: Iterable[int]) -> Iterator[VideoFrame]:
    """The frames at ascending positions; one that does not decode is an error and never replaced by another."""
    name, at, size = name_of(place), -1, None
    with open_video(place) as (container, stream):
        try:
            frames = container.decode(stream)
            for position in positions:
                restart = table.restarts[bisect_right(table.restarts, position) - 1]
                if table.pts and restart > at + 1:
                    container.seek(table.pts[restart], stream=stream)
                    frames, at = container.decode(stream), restart - 1
                while True:
                    frame = next(frames)
                    at = bisect_left(table.pts, frame.pts) if table.pts and frame.pts is not None else at + 1
                    if at >= position:
                        break
                if at != position or frame.is_corrupt:
                    raise _cut(name, at, f"frame {position} is missing or damaged")
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    raise MediaError("unreadable", f"{name} changes its size at frame {at}; encode it in one size")
                yield frame
        except StopIteration:
            raise _cut(name, at, f"the last of {len(table.times)} frames is missing") from None
        except FFmpegError as error:
            check_memory(error, name)
            raise _cut(name, at, str(error)) from None


def rgb(frame: VideoFrame, table: FrameTable, place: Place) -> np.ndarray:
    """A frame as uint8 [height, width, 3] as it is to be shown: stretched where its pixels are not square, then turned.

    Its colours follow the matrix and range that the file states; of a file that states none, BT.601 and, but for the
    full range of JPEG formats, the limited one: so do decord and torchcodec.
    """
    try:
        pixels = frame.to_ndarray(format="rgb24")
    except FFmpegError as error:
        check_memory(error, name_of(place))
        raise MediaError("unreadable", f"{name_of(place)}: no colours from {frame.format.name}: {error}") from None
    stored, size = (frame.width, frame.height), _square_size(frame.width, frame.height, table.aspect)
    if size != stored:
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return np.rot90(pixels, round(frame.rotation / 90)) if frame.rotation else pixels


@contextlib.contextmanager
def open_video(place: Place) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file opened by FFmpeg, and its video stream."""
    name = name_of(place)
    open_place(place).close()
    limits = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(
            str(place) if isinstance(place, Path) else io.BytesIO(place),
            "r",
            container_options=limits,
            **LENIENT,
        )
    except (FFmpegError, ValueError) as error:
        check_memory(error, name)
        if lacks_index(place):
            why = "it was not written to its end"
            raise MediaError("no_index", f"{name} has no index (moov box), {why}; get the whole file") from None
        raise MediaError("unreadable", f"{name} is not a video of a known format ({FORMATS}): {error}") from None
    with container:
        if any(stream.codec_context is None for stream in container.streams.video):
            raise MediaError(
                "unknown_codec", f"{name} is encoded with a codec FFmpeg does not know; encode it as H.264"
            )
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise MediaError("no_stream", f"{name} has no video stream; give a file with one")
        width, height = _square_size(stream.codec_context.width, stream.codec_context.height, _aspect(stream))
        if width * height > MAX_FRAME_PIXELS:
            raise MediaError("bomb", f"{name} has frames of {width}x{height}, the limit is {MAX_FRAME_PIXELS} pixels")
        # Damage is an error and is not concealed; H.264 reports it in one thread only. A size may change midway.
        stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(MAX_FRAME_PIXELS)}
        stream.codec_context.thread_count = 1
        yield container, stream


def _aspect(stream: VideoStream) -> Fraction:
    """The width of a stored pixel over its height; 1 where the file does not say."""
    return stream.sample_aspect_ratio or Fraction(1)


def _square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """The size with square pixels: one side grows, so that nothing stored gets lost."""
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


Stamps = tuple[int | None, int | None]  # pts and dts of a packet


def _packets(
    container: InputContainer, stream: VideoStream, name: str
) -> tuple[list[Stamps], list[tuple[int | None, bool]], int, float]:
    """(stamps of each frame that is shown, (pts, starts afresh) of each key frame, hidden frames, end in seconds)."""
    frames: list[Stamps] = []
    keys: list[tuple[int | None, bool]] = []
    hidden, end = 0, 0.0
    wanted = [] if "matroska" in container.format.name else [stream]  # all, to compare with the duration in the header
    try:
        for packet in container.demux(*wanted):
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index or not packet.size:
                continue
            if packet.is_corrupt:
                raise _cut(name, len(frames) - 1, "a packet ends too early")
            if packet.is_keyframe:
                keys.append((packet.pts, _starts_afresh(stream, bytes(packet))))
            if packet.is_discard:
                hidden += 1
            else:
                frames.append((packet.pts, packet.dts))
            if len(frames) > MAX_FRAMES:
                raise MediaError("too_long", f"{name} has more than {MAX_FRAMES} frames; cut it")
    except FFmpegError as error:
        check_memory(error, name)
        raise _cut(name, len(frames) - 1, str(error)) from None
    return frames, keys, hidden, end


def _check_whole(container: InputContainer, stream: VideoStream, packets: int, end: float, name: str) -> None:
    """Compare what the header declares with what the file holds, where the format makes the header reliable."""
    if "mp4" in container.format.name and packets < stream.frames:
        raise MediaError("cut", f"{name} declares {stream.frames} frames and holds {packets}; get the whole file")
    declared = (container.duration or 0) / av.time_base
    if "matroska" in container.format.name and end < declared - HEADER_SLACK:
        raise MediaError("cut", f"{name} declares {declared:.2f} seconds and ends at {end:.2f}; get the whole file")


def _starts_afresh(stream: VideoStream, packet: bytes) -> bool:
    """Whether nothing after this key frame needs anything before it: in H.264, an IDR picture."""
    codec, header = stream.codec_context.name, stream.codec_context.extradata or b""
    if codec != "h264" or header[:1] != b"\x01":  # 1: each NAL unit follows its length, as in MP4 and Matroska
        return codec in CLEAN_KEYS
    prefix, at = (header[4] & 3) + 1, 0
    while at + prefix < len(packet):
        unit = packet[at + prefix] & 31
        if unit in (1, 5):  # a slice of another picture, of an IDR picture
            return unit == 5
        at += prefix + int.from_bytes(packet[at : at + prefix])
    return False


def _distinct(stamps: list[int | None]) -> list[int] | None:
    """The stamps in order, or None where one is missing or occurs twice."""
    known = sorted(stamp for stamp in stamps if stamp is not None)
    return known if len(known) == len(stamps) and all(a < b for a, b in pairwise(known)) else None


def _mean_rate(times: list[float], declared: float) -> float:
    """Frames per second: the declared rate where it agrees with the times to within half a frame, else their mean."""
    if len(times) < 2 or abs(declared * times[-1] - (len(times) - 1)) < 0.5:
        return declared or 25.0
    return (len(times) - 1) / times[-1]


def _cut(name: str, at: int, why: str) -> MediaError:
    if at < 0:
        return MediaError("no_frames", f"{name}: no frame decodes ({why}); get the file again")
    return MediaError("cut", f"{name} is cut or damaged after frame {at} ({why}); get the whole file")
