"""Videos: which frames a file holds and when they are shown, and the frames themselves, from decord or PyAV alike."""

from __future__ import annotations

import importlib.util
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmrl.core.media.files import MediaError, Place, Source, name_of, place_of
from mmrl.core.media.frames import FrameTable, decoded, frame_table, rgb
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget, VisionGeometry

logger = logging.getLogger(__name__)

Backend = Literal["auto", "decord", "pyav"]

DECORD_CODECS = {"h264", "vp8", "vp9"}  # of these both backends give the same bytes; of MPEG-4 and 10 bits they do not
DECORD_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


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
        """The `video_metadata` of Hugging Face processors. A cut is told as a video of its own that starts at 0."""
        first = self.indices[0] if self.cut else 0
        shown = self.indices[-1] - first + 1 if self.cut else self.num_frames
        return {
            "fps": self.fps,
            "total_num_frames": shown,
            "frames_indices": [index - first for index in self.indices],
            "duration": shown / self.fps if self.cut else self.duration,
            "height": self.frames.shape[1],
            "width": self.frames.shape[2],
            "video_backend": self.backend,
        }


def load_video(
    source: Source,
    budget: VisionBudget,
    root: Path | None = None,
    *,
    backend: Backend = "auto",
    geometry: VisionGeometry | None = None,
) -> Video:
    """The frames of a video that the budget asks for, between the media's `start` and `end`, in their own size.

    Indices count an even grid of the mean frame rate; where the frame rate varies they stand for times, so that
    `index / fps` is the second at which the frame is shown.

    decord can hang for ever on a file whose frames do not all decode, and lands beside the frame asked for in files
    with open groups of pictures or edit lists. So `auto` takes it only for a Media whose `num_frames` tells that
    probing decoded it whole, and whose table of frames shows nothing of that kind; all else is read by PyAV.
    """
    place = place_of(source, root)
    media = source if isinstance(source, Media) else Media("video")
    table = frame_table(place)
    indices = budget.frame_indices(len(table.times), table.fps, media.start, media.end, geometry)
    positions = [table.shown_at((index + 0.5) / table.fps) for index in indices]  # mid-frame: stamps are rounded
    wanted, back = np.unique(positions, return_inverse=True)
    frames, reader = _read(place, media, table, wanted.tolist(), backend)
    return Video(
        frames=frames[back],
        indices=indices,
        fps=table.fps,
        num_frames=len(table.times),
        duration=table.duration,
        backend=reader,
        cut=media.start is not None or media.end is not None,
    )


def probe_video(place: Place, *, validate: bool = True) -> dict[str, Any]:
    """The measures of a video as fields of Media. `validate` decodes it whole; else only its first frame is decoded,
    and `num_frames` is None."""
    table = frame_table(place)
    frames = decoded(place, table, range(len(table.times) if validate else 1))
    height, width, _ = rgb(next(frames), place).shape
    for _ in frames:
        pass  # a frame that does not decode raises
    num_frames = len(table.times) if validate else None
    return {"width": width, "height": height, "num_frames": num_frames, "fps": table.fps, "duration": table.duration}


def _read(
    place: Place, media: Media, table: FrameTable, positions: list[int], backend: Backend
) -> tuple[np.ndarray, str]:
    """The frames at ascending positions, and the backend that read them."""
    if backend != "pyav":
        unfit = _unfit_for_decord(media, table)
        try:
            if unfit:
                raise MediaError("unreadable", f"{name_of(place)}: not for decord, {unfit}; use backend auto")
            return _from_decord(place, table, positions), "decord"
        except MediaError as error:
            if backend == "decord":
                raise
            logger.log(logging.DEBUG if unfit else logging.WARNING, "%s; PyAV reads it", error)
    return _from_pyav(place, table, positions), "pyav"


def _unfit_for_decord(media: Media, table: FrameTable) -> str:
    """Why decord may not read this file, or nothing."""
    if importlib.util.find_spec("decord") is None:
        return "it is not installed"
    if media.num_frames != len(table.times):
        return f"the file has {len(table.times)} frames and its Media says {media.num_frames}: probe it first"
    if table.codec not in DECORD_CODECS or table.pixel_format not in DECORD_PIXELS:
        return f"of {table.codec} {table.pixel_format} it may show other frames or colours"
    if not table.plain:
        return "it lands beside the frame in files with open groups of pictures, hidden frames or several streams"
    return ""


def _from_pyav(place: Place, table: FrameTable, positions: list[int]) -> np.ndarray:
    return np.stack([rgb(frame, place) for frame in decoded(place, table, positions)])


def _from_decord(place: Place, table: FrameTable, positions: list[int]) -> np.ndarray:
    import decord

    try:  # one thread: workers are processes here
        reader = decord.VideoReader(str(place) if isinstance(place, Path) else io.BytesIO(place), num_threads=1)
        if len(reader) == len(table.times):
            return reader.get_batch(positions).asnumpy()
        raise MediaError("unreadable", f"{name_of(place)}: decord counts {len(reader)} frames, not {len(table.times)}")
    except decord.DECORDError as error:
        raise MediaError("unreadable", f"{name_of(place)}: decord: {error}") from None
