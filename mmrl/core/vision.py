"""The vision budget: how many pixels and frames a model sees, predicted exactly as its own processor resizes.

Everybody reads this one object; nobody else sets pixel limits. Sizes are (width, height). Coordinates and boxes live in
`mmrl.core.boxes` and are imported from here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from mmrl.core.boxes import CoordinateSpace, box_iou, box_iou_paired, from_pixels, to_pixels
from mmrl.core.config import Config, InputError
from mmrl.core.families import FAMILIES

__all__ = [
    "CoordinateSpace",
    "Size",
    "VisionBudget",
    "VisionGeometry",
    "apply_budget",
    "box_iou",
    "box_iou_paired",
    "check_budget",
    "from_pixels",
    "geometry_of",
    "to_pixels",
]

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # (width, height)

MAX_ASPECT_RATIO = 200  # beyond it the processors refuse
FRAME_FLOOR = 1.05  # however long a video, the processors leave each frame this many times min_pixels
TOKEN_SHARE = 0.9  # of its max_video_tokens, Qwen2-VL's video processor spends this share


@dataclass(frozen=True, slots=True)
class VisionGeometry:
    """How a model cuts pictures: `patch` pixels a side, `merge` patches a side to one token, `temporal_patch` frames
    to one token. `whole_video`: its processor bounds a video's pixels over all frames (Qwen3-VL), not for each frame
    (Qwen2-VL, Qwen2.5-VL)."""

    patch: int
    merge: int
    temporal_patch: int
    whole_video: bool = False

    @property
    def factor(self) -> int:
        """Pixels a side of one vision token; seen sizes are multiples of it."""
        return self.patch * self.merge

    def grid(self, width: int, height: int, frames: int = 1) -> tuple[int, int, int]:
        """The (time, height, width) patches of a picture or video of a seen size: a row of the model's `grid_thw`."""
        return math.ceil(frames / self.temporal_patch), height // self.patch, width // self.patch


class VisionBudget(Config):
    """Pixels, frames and frame rate that a model may see.

    `min_pixels` and `max_pixels` bound an image, and a frame of a video (Qwen3-VL's processor reads `min_pixels` as
    the minimum of the whole video). `total_pixels` bounds the pixels of all frames of a video together, to within one
    vision token; qwen-vl-utils divides its `total_pixels` by the temporal patch, so its numbers are half of these.
    """

    min_pixels: PositiveInt = 4 * 28 * 28
    max_pixels: PositiveInt = 1280 * 28 * 28
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    min_frames: PositiveInt = 4
    max_frames: PositiveInt = 64
    total_pixels: PositiveInt = 16384 * 28 * 28

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for low, high in (("min_pixels", "max_pixels"), ("min_frames", "max_frames")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}")
        if self.min_frames > self._most_frames:
            raise ValueError(
                f"total_pixels {self.total_pixels} cannot hold min_frames {self.min_frames} of at least "
                f"{self._frame_floor} pixels ({FRAME_FLOOR} x min_pixels); raise it, or lower min_frames or min_pixels"
            )
        return self

    @property
    def _frame_floor(self) -> int:
        return int(self.min_pixels * FRAME_FLOOR)

    @property
    def _most_frames(self) -> int:
        """No more than total_pixels can hold: in a longer video the processors exceed it rather than shrink frames."""
        return min(self.max_frames, self.total_pixels // self._frame_floor)

    def image_size(self, width: int, height: int, geometry: VisionGeometry) -> Size:
        """The size at which the model sees an image."""
        return smart_resize(width, height, geometry.factor, self.min_pixels, self.max_pixels)

    def video_size(self, width: int, height: int, frames: int, geometry: VisionGeometry) -> Size:
        """The size at which the model sees each of the `frames` sampled frames of a video."""
        factor, temporal = geometry.factor, geometry.temporal_patch
        if frames < (temporal if geometry.whole_video else 1):
            raise InputError(f"a video of {frames} frames is too short: the processor needs {temporal} frames or more")
        tokens = _max_video_tokens(self, geometry)
        if geometry.whole_video:
            most = max(min(tokens * factor * factor, self.total_pixels // frames), self._frame_floor)
            width, height = _at_least_one_token(width, height, factor)
            return smart_resize(width, height, factor, self.min_pixels, most * frames, frames, temporal)
        share = int(tokens * factor * factor * TOKEN_SHARE) * temporal // frames
        most = max(min(self.max_pixels, share), self._frame_floor)
        return smart_resize(width, height, factor, self.min_pixels, most)

    def frame_indices(
        self,
        num_frames: int,
        fps: float,
        start: float | None = None,
        end: float | None = None,
        geometry: VisionGeometry | None = None,
    ) -> list[int]:
        """Which frames of a file to look at: evenly spread over the frames shown in [start, end) seconds.

        As many as the budget's fps asks for, between min_frames and max_frames, never more than there are or than
        total_pixels holds; with a geometry, a multiple of its temporal patch unless there are fewer frames than one
        patch. So does qwen-vl-utils, which raises on fewer than two frames and also counts the frame at `end`.
        """
        first, stop = _shown_between(num_frames, fps, start, end)
        step = geometry.temporal_patch if geometry else 1
        most = min(self._most_frames, stop - first)
        wanted = max((stop - first) / fps * self.fps, math.ceil(self.min_frames / step) * step)
        count = int(min(wanted, most)) // step * step or most
        return np.linspace(first, stop - 1, count).round().astype(int).tolist()


def smart_resize(
    width: int, height: int, factor: int, min_pixels: int, max_pixels: int, frames: int = 1, temporal_patch: int = 1
) -> Size:
    """The size nearest to (width, height) in multiples of `factor` with its pixels, over all frames, within the limits.

    Repeats transformers' `smart_resize` of qwen2_vl (one frame) and qwen3_vl step by step, its rounding included: a
    side never falls below `factor`, so extreme shapes may exceed `max_pixels`.
    """
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width}x{height} has no pixels")
    if max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
        raise InputError(f"{width}x{height}: one side is more than {MAX_ASPECT_RATIO} times the other; crop or drop it")
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    pixels = round(frames / temporal_patch) * temporal_patch * new_width * new_height
    if pixels > max_pixels:
        shrink = math.sqrt(frames * width * height / max_pixels)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
    elif pixels < min_pixels:
        grow = math.sqrt(min_pixels / (frames * width * height))
        new_width = math.ceil(width * grow / factor) * factor
        new_height = math.ceil(height * grow / factor) * factor
    return new_width, new_height


def geometry_of(processor: Any) -> VisionGeometry | None:
    """The geometry of a processor that resizes by pixels as Qwen2-VL, Qwen2.5-VL and Qwen3-VL do, else None.

    None is for processors that cut tiles of a fixed size (Idefics3, SmolVLM, LLaVA-OneVision, InternVL) and for those
    whose arithmetic we do not repeat: no seen size can be predicted for them.
    """
    image: Any = getattr(processor, "image_processor", None)
    video: Any = getattr(processor, "video_processor", None)
    for family in FAMILIES.values():
        if _is_one_of(image, family.image_processors) and (video is None or _is_one_of(video, family.video_processors)):
            whole_video = family.whole_video and video is not None
            return VisionGeometry(image.patch_size, image.merge_size, image.temporal_patch_size, whole_video)
    return None


def apply_budget(processor: Any, budget: VisionBudget) -> None:
    """Make the processor's image and video processors keep to the budget; the processor is changed in place.

    Where `geometry_of` is None there is nothing to set, and the budget limits a video's frames only.
    """
    geometry = geometry_of(processor)
    if geometry is None:
        logger.warning("%s does not resize by pixels: the budget limits frames only", type(processor).__name__)
        return
    _set_size(processor.image_processor, budget.min_pixels, budget.max_pixels)
    video = getattr(processor, "video_processor", None)
    if video is None:
        return
    _set_size(video, budget.min_pixels, budget.total_pixels if geometry.whole_video else budget.max_pixels)
    video.cap_pixels_per_frame = True
    video.max_video_tokens = _max_video_tokens(budget, geometry)
    # Read when the processor is asked to sample frames itself:
    video.fps, video.min_frames, video.max_frames = budget.fps, budget.min_frames, budget._most_frames


def check_budget(processor: Any, budget: VisionBudget, sizes: Sequence[Size | tuple[int, int, int]]) -> None:
    """Run the processor on blank images (width, height) and videos (width, height, frames), and compare its grids with
    the budget's prediction; the first mismatch is an InputError that shows both.

    Returns without a claim where `geometry_of` is None.
    """
    geometry = geometry_of(processor)
    if geometry is None:
        return
    for width, height, *video in sizes:
        if video:
            (frames,) = video
            name, part = f"video of {frames} frames of {width}x{height}", processor.video_processor
            predicted = geometry.grid(*budget.video_size(width, height, frames, geometry), frames)
            blank = np.zeros((frames, height, width, 3), np.uint8)
            inputs = {"videos": [blank], "do_sample_frames": False}
        else:
            name, part = f"image of {width}x{height}", processor.image_processor
            predicted = geometry.grid(*budget.image_size(width, height, geometry))
            inputs = {"images": [np.zeros((height, width, 3), np.uint8)]}
        features = part(**inputs, input_data_format="channels_last", return_tensors="pt")
        actual = tuple(features["video_grid_thw" if video else "image_grid_thw"][0].tolist())
        if actual != predicted:
            raise InputError(
                f"{name}: the grid (time, height, width) of {type(part).__name__} is {actual} and the vision budget "
                f"predicts {predicted}. The processor has size {dict(part.size)}, the budget is {budget!r}; "
                "set the processor with mmrl.core.vision.apply_budget and do not change it afterwards"
            )


def _set_size(part: Any, low: int, high: int) -> None:
    for stale in ("min_pixels", "max_pixels"):  # set as attributes, these would win over `size`
        vars(part).pop(stale, None)
    part.size = type(part.size)(shortest_edge=low, longest_edge=high)


def _max_video_tokens(budget: VisionBudget, geometry: VisionGeometry) -> int:
    """The value of a video processor's `max_video_tokens` that makes it keep the budget.

    Qwen3-VL's counts the tokens of one frame. Qwen2-VL's counts those of the whole video; rounded up, so that a video
    that fits exactly is left as it is.
    """
    token = geometry.factor**2
    if geometry.whole_video:
        return budget.max_pixels // token
    return math.ceil(budget.total_pixels / (geometry.temporal_patch * token * TOKEN_SHARE))


def _at_least_one_token(width: int, height: int, factor: int) -> Size:
    """The size scaled up until both sides reach `factor`, as Qwen3-VL's video processor begins."""
    if min(width, height) >= factor or min(width, height) < 1:
        return width, height
    scale = max(factor / height, factor / width)
    return int(width * scale), int(height * scale)


def _shown_between(num_frames: int, fps: float, start: float | None, end: float | None) -> tuple[int, int]:
    """(first, stop) of the frames i whose time i / fps lies in [start, end); times equal to a microframe are equal."""
    if num_frames < 1 or not (math.isfinite(fps) and fps > 0):
        raise InputError(f"a video of {num_frames} frames at {fps} fps has no frames to sample")
    since, until = 0.0 if start is None else start, math.inf if end is None else end
    if since < until:
        first, stop = (math.ceil(min(max(time * fps, 0), num_frames) - 1e-6) for time in (since, until))
        if first < stop:
            return first, stop
    raise InputError(
        f"no frame is shown in [{start}, {end}) seconds of a video of {num_frames} frames at {fps} fps "
        f"({num_frames / fps:.3f} seconds)"
    )


def _is_one_of(part: Any, names: Collection[str]) -> bool:
    """Whether the object is of a class of one of these names; transformers need not be imported to ask."""
    return any(kind.__name__ in names for kind in type(part).__mro__)
