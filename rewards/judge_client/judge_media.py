"""Pictures and video frames as a judge gets them: decoded here, scaled down, sent as data URIs."""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from mmrl.core.files import sha256_of
from rewards.base import MediaLike

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")  # EPS would start a program
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif"  # a playlist would make FFmpeg open what it names
MAX_PIXELS = 89_478_485  # of a file, before it is scaled down
MAX_DECODED = 2_000  # frames between a keyframe and the wanted one
QUALITY = 90


class MediaFault(ValueError):  # noqa: N818 - the rollout's fault, not one of the code
    """A picture or video that cannot be shown to the judge."""


@dataclass(frozen=True)
class Shown:
    """A file that the judge sees, under a label; `size_of` names a picture whose size it is given."""

    kind: str
    path: str
    label: str = ""
    size_of: str | None = None


def shown(media: Sequence[MediaLike]) -> tuple[Shown, ...]:
    """All media of a rollout, numbered; MediaFault if one has no file."""
    return tuple(shown_as(item, f"{item.kind.capitalize()} {number}:") for number, item in enumerate(media, 1))


def shown_as(item: MediaLike, label: str, *, size_of: str | None = None) -> Shown:
    """One media item under a label."""
    if not item.path:
        raise MediaFault(f"{label} has no file")
    return Shown(item.kind, item.path, label, size_of)


def digest(item: Shown) -> str:
    """The SHA-256 of what decides the pictures: the file, and the file that gives the size."""
    paths = [item.path, *([item.size_of] if item.size_of else [])]
    return "+".join(_sha256(path, *_stamp(path)) for path in paths)


def data_uris(item: Shown, max_pixels: int, max_frames: int) -> tuple[str, ...]:
    """One picture, or the frames of a video, as data URIs of JPEG files of at most `max_pixels` pixels each."""
    stamps = [_stamp(path) for path in (item.path, item.size_of) if path]
    return _encoded(item, tuple(stamps), max_pixels, max_frames)


@functools.lru_cache(maxsize=32)  # the rollouts of a group show the judge the same picture, one after the other
def _encoded(item: Shown, stamps: tuple[tuple[int, int], ...], max_pixels: int, max_frames: int) -> tuple[str, ...]:
    pictures = frames(item.path, max_frames) if item.kind == "video" else [picture(item.path)]
    if item.size_of:
        size = picture(item.size_of).size
        pictures = [picture.resize(size) for picture in pictures]
    return tuple(_data_uri(picture, max_pixels) for picture in pictures)


def _stamp(path: str) -> tuple[int, int]:
    """What changes when a file is written anew."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise MediaFault(f"no media file at {path!r:.200}: {error}") from None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4096)
def _sha256(path: str, changed: int, size: int) -> str:
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise MediaFault(f"cannot read {path!r:.200}: {error}") from None


def picture(path: str) -> Image.Image:
    """The picture in RGB, turned as its EXIF orientation says; MediaFault if it cannot be read."""
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in _known_formats()]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaFault(f"{path:.200} has {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
            return ImageOps.exif_transpose(image).convert("RGB")
    except MediaFault:
        raise
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise MediaFault(f"{path:.200} is no readable picture: {type(error).__name__}: {error}") from None


@functools.cache
def _known_formats() -> frozenset[str]:
    Image.init()
    return frozenset(Image.OPEN)


def frames(path: str, count: int) -> list[Image.Image]:
    """`count` frames of a video, from the centres of as many equal parts of it."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise MediaFault("showing a video to a judge needs PyAV: pip install 'mmrl-stack[data]'") from None
    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(path, "r", container_options=limits, metadata_errors="replace") as container:
            stream = container.streams.video[0]
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise MediaFault(f"{path:.200} has frames of more than {MAX_PIXELS} pixels")
            seconds = (container.duration or 0) / av.time_base
            if seconds <= 0:
                raise MediaFault(f"{path:.200} does not say how long it is")
            found = []
            for part in range(count):
                wanted = (part + 0.5) / count * seconds
                container.seek(int(wanted * av.time_base))
                frame = None
                for number, frame in enumerate(container.decode(stream)):
                    if (frame.time or 0.0) >= wanted or number >= MAX_DECODED:
                        break
                if frame is not None:
                    found.append(frame.to_image())
    except (FFmpegError, ValueError, IndexError) as error:
        fault = error if isinstance(error, MediaFault) else f"{path:.200} is no readable video: {error}"
        raise MediaFault(str(fault)) from None
    if not found:
        raise MediaFault(f"{path:.200} has no frames that decode")
    return found


def _data_uri(picture: Image.Image, max_pixels: int) -> str:
    shrink = (max_pixels / (picture.width * picture.height)) ** 0.5
    if shrink < 1:
        picture = picture.resize((max(int(picture.width * shrink), 1), max(int(picture.height * shrink), 1)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
