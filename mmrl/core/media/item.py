"""Media: one image or video, as samples, rollouts and records hold it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import PositiveInt

from mmrl.core.config import InputError

MediaKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video: a path (of a dataset: relative to it) or bytes, and its measures where they are known.

    Width and height are pixels as the media is shown: after EXIF rotation, and of a video with square pixels.
    `duration`, `start` and `end` are seconds of the file; `start` and `end` cut a video. `num_frames` is the number of
    frames that probing decoded.
    """

    kind: MediaKind = "image"
    path: str | None = None
    bytes: builtins.bytes | None = None
    sha256: str | None = None
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration: float | None = None
    start: float | None = None
    end: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Media:
        """The media of a row that `row` made; fields that are not there are None."""
        try:
            return cls(**row)
        except TypeError as error:
            raise InputError(f"a media item has the keys {', '.join(MEDIA_FIELDS)}: {error}") from None

    def row(self) -> dict[str, Any]:
        """The fields as JSON takes them, without the bytes."""
        return {name: getattr(self, name) for name in MEDIA_FIELDS if name != "bytes"}


MEDIA_FIELDS = tuple(field.name for field in fields(Media))


def shown_seconds(media: Media) -> float | None:
    """How long a video is shown between its start and end; None where its duration is not known."""
    ends = [end for end in (media.end, media.duration) if end is not None]
    return min(ends) - (media.start or 0.0) if ends else None
