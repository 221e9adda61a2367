"""Videos: which frames of a file are looked at, and the frames themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mmrl.core.config import InputError
from mmrl.core.media.damage import zeros_fault
from mmrl.core.media.files import MediaError, Place, Source, name_of, open_place, place_of
from mmrl.core.media.frames import FrameTable, decoded, frame_table, rgb
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget, VisionGeometry

Reader = Literal["pyav", "decord"]

CONCEALING = {"mpeg4", "msmpeg4v3", "mpeg2video", "mjpeg"}  # codecs whose decoders paint over what is missing
READER = "MMRL_VIDEO_READER"  # the environment variable that names the reader


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Sampled frames, uint8 [T, height, width, 3], and where in the file they are.

    Frame `i` of the `indices` is the one shown at `i / fps` seconds after the first frame. `num_frames` and `duration`
    are those of the whole file, `cut` says whether only a part of it, from the first index to the last, was asked for.
    """

    frames: np.ndarray
    indices: list[int]
    fps: float
    num_frames: int
    duration: float
    backend: str
    cut: bool = False

    def metadata(self) -> dict[str, Any]:
        """The `video_metadata` of Hugging Face processors. A cut counts as a video of its own that starts at 0."""
        first = self.indices[0] if self.cut else 0
        count = self.indices[-1] - first + 1 if self.cut else self.num_frames
        return {
            "fps": self.fps,
            "total_num_frames": count,
            "frames_indices": [index - first for index in self.indices],
            "duration": count / self.fps if self.cut else self.duration,
            "height": self.frames.shape[1],
            "width": self.frames.shape[2],
            "video_backend": self.backend,
        }


def load_video(
    source: Source,
    budget: VisionBudget,
    root: Path | None = None,
    *,
    geometry: VisionGeometry | None = None,
    reader: Reader | None = None,
) -> Video:
    """The frames of a video that the budget asks for, between the media's `start` and `end`, in their own size.

    Indices count an even grid of the mean frame rate; where the frame rate varies they stand for times, so that
    `index / fps` is the second at which the frame is shown. The reader is PyAV unless the environment variable
    `MMRL_VIDEO_READER` is `decord`; decord then reads the files that it reads correctly, and PyAV the others.
    """
    place = place_of(source, root)
    media = source if isinstance(source, Media) else Media("video")
    table = frame_table(place)
    indices = budget.frame_indices(len(table.times), table.fps, media.start, media.end, geometry)
    positions = list(map(table.position_of, indices))
    wanted, back = np.unique(positions, return_inverse=True)
    frames, used = _read(place, media, table, wanted.tolist(), reader or _chosen_reader())
    return Video(
        frames=frames[back],
        indices=indices,
        fps=table.fps,
        num_frames=len(table.times),
        duration=table.duration,
        backend=used,
        cut=media.start is not None or media.end is not None,
    )


def load_frames(media: Media, count: int) -> Video:
    """`count` frames of a video, or all if it has fewer: the first, the last, and others evenly spread between them."""
    any_size = {"min_pixels": 1, "max_pixels": 2**31, "total_pixels": 2**40}
    return load_video(media, VisionBudget(min_frames=count, max_frames=count, **any_size))


def probe_video(place: Place, *, validate: bool = True) -> dict[str, Any]:
    """The measures of a video as fields of Media. `validate` decodes it whole; else only its first frame is decoded,
    and `num_frames` is None."""
    table = frame_table(place)
    frames = decoded(place, table, range(len(table.times) if validate else 1))
    height, width, _ = rgb(next(frames), table, place).shape
    for _ in frames:
        pass  # a frame that does not decode raises
    if validate and table.codec in CONCEALING:
        with open_place(place) as file:
            if fault := zeros_fault(file):
                raise MediaError("cut", f"{name_of(place)} is damaged ({fault[1]}); get the whole file")
    num_frames = len(table.times) if validate else None
    return {"width": width, "height": height, "num_frames": num_frames, "fps": table.fps, "duration": table.duration}


def _chosen_reader() -> str:
    reader = os.environ.get(READER) or "pyav"
    if reader not in get_args(Reader):
        raise InputError(f"{READER}={reader}: the video readers are {', '.join(get_args(Reader))}")
    return reader


def _read(place: Place, media: Media, table: FrameTable, positions: list[int], reader: str) -> tuple[np.ndarray, str]:
    """The frames at ascending positions, and the reader that read them."""
    if reader == "decord":
        from mmrl.core.media.decord_reader import decord_frames, reads_right

        if reads_right(media, table):
            return decord_frames(place, table, positions), "decord"
    return np.stack([rgb(frame, table, place) for frame in decoded(place, table, positions)]), "pyav"
