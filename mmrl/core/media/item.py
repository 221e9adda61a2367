"""Media: one image or video."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

MediaKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video of a sample: a path (relative to its dataset) or bytes, and what probing found.

    Width and height are pixels after EXIF rotation; duration, start and end are seconds of the file; start and end cut
    a video. `num_frames` is the number of frames that were seen to decode.
    """

    kind: MediaKind
    path: str | None = None
    bytes: bytes | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration: float | None = None
    start: float | None = None
    end: float | None = None


MEDIA_FIELDS = tuple(one.name for one in fields(Media))


def shown_seconds(media: Media) -> float | None:
    """How long a video is shown between its start and end; None where its duration is not known."""
    ends = [end for end in (media.end, media.duration) if end is not None]
    return min(ends) - (media.start or 0.0) if ends else None
