"""What a tool may look at, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mmrl.core.boxes import CoordinateSpace, from_pixels, rounded, to_pixels
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.video import Video
from mmrl.core.vision import Size

SCENE = "scene"  # the argument of a tool that mmrl fills in
Piece = str | Image.Image | Video  # of a result
FAR = 1e9  # coordinates beyond it are cut before they are scaled


class ToolError(Exception):
    """A tool cannot do what it was asked; the model reads the text."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture or video that the model has seen, and its (width, height) after the processor's resizing."""

    content: Media | Image.Image | Video
    seen_size: Size

    @property
    def kind(self) -> str:
        """`image` or `video`."""
        return self.content.kind if isinstance(self.content, Media) else _KINDS[isinstance(self.content, Video)]


_KINDS = ("image", "video")


@dataclass(frozen=True, slots=True)
class Scene:
    """The pictures and videos that the model has seen, the sample's first and then those that tools returned; the space
    in which the model gives coordinates; the sample's gold `answer`; a `seed`, which all rollouts of a group share; and
    the folder with the `index` of the documents that can be searched.

    A tool gets it as its argument `scene`, of which the model knows nothing.
    """

    shown: tuple[Shown, ...] = ()
    space: CoordinateSpace = CoordinateSpace.pixel
    answer: Any = None
    seed: int = 0
    index: str | None = None

    @property
    def database(self) -> str | None:
        """The statements that make the sample's database, if it has one."""
        return self.answer.get("database") if isinstance(self.answer, Mapping) else None

    def picture(self, number: int) -> Image.Image:
        """The picture of this number among the pictures, counted from 1."""
        content = self._numbered("image", number).content
        return load_image(content) if isinstance(content, Media) else content  # pyright: ignore[reportReturnType]

    def video(self, number: int) -> Media:
        """The video of this number among the sample's videos, counted from 1."""
        content = self._numbered("video", number).content
        if not isinstance(content, Media):
            raise ToolError(f"video {number} came from a tool; only a video of the question can be read again")
        return content

    def box(self, box: Sequence[float], number: int) -> tuple[int, int, int, int]:
        """A box that the model gave on a picture, as whole pixels of it: (left, top, right, bottom)."""
        shown = self._numbered("image", number)
        size = self.picture(number).size
        if len(box) != 4 or not np.isfinite(box).all():
            raise ToolError(f"box must be four finite numbers [x1, y1, x2, y2], got {list(box)!r:.80}")
        pixels = to_pixels(np.clip(box, -FAR, FAR), self.space, size, shown.seen_size)
        x1, y1, x2, y2 = np.clip(pixels, 0, [*size, *size])
        left, top, right, bottom = int(np.floor(x1)), int(np.floor(y1)), int(np.ceil(x2)), int(np.ceil(y2))
        if left >= right or top >= bottom:
            raise ToolError(f"the box {list(box)!r:.80} holds no pixel of picture {number}")
        return left, top, right, bottom

    def said(self, box: Sequence[float], number: int) -> list[float]:
        """A box in pixels of a picture as the model gives it; the inverse of `box`."""
        shown = self._numbered("image", number)
        return rounded(from_pixels(box, self.space, self.picture(number).size, shown.seen_size), self.space)

    def _numbered(self, kind: str, number: int) -> Shown:
        found = [shown for shown in self.shown if shown.kind == kind]
        if not 1 <= number <= len(found):
            has = f"there are {len(found)}, counted from 1" if found else "there is none"
            raise ToolError(f"no {kind} {number}: {has}")
        return found[number - 1]


def readable(text: str) -> str:
    """`text` with ? for what no UTF-8 can hold; JSON can."""
    return text.encode("utf-8", "replace").decode()


def pieces_of(result: Any) -> tuple[Piece, ...]:
    """What a tool returned as texts, pictures and videos; TypeError for anything else.

    >>> pieces_of({"rows": 2}), pieces_of(["a", 1.5])
    (('{"rows": 2}',), ('["a", 1.5]',))
    """
    if isinstance(result, str):
        return (readable(result),)
    if isinstance(result, Video):
        if result.frames.dtype != np.uint8 or result.frames.ndim != 4 or result.frames.shape[3] != 3:
            raise TypeError(f"the frames of a video are uint8 [T, height, width, 3], not {result.frames.shape}")
        return (result,)
    if isinstance(result, Image.Image):
        return (result.convert("RGB"),)
    if isinstance(result, list | tuple) and any(isinstance(one, Image.Image | Video) for one in result):
        return tuple(piece for one in result for piece in pieces_of(one))
    return (readable(json.dumps(result, ensure_ascii=False)),)
