"""Pictures and videos for pages, with places and times marked on them: the gold ones, and those that answers name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from mmrl.core.html import Html, element, joined, ticks
from mmrl.core.media.data_uri import data_uri

SIDE = 640  # pixels of a picture's longer side on the page; larger ones are scaled down
FRAME = (160, 120)  # the largest a frame of a strip may be


Region = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A box (x1, y1, x2, y2) or point (x, y) in pixels of the picture, or a span (start, end) in seconds of the video.

    `kind` says how it looks: `gold`, `before`, `after` or `answer`. The label of an answer is written next to it.
    """

    kind: str
    label: str
    region: Region


def gold_rows(gold: Any, name: str, numbers: int) -> list[Region]:
    """The rows of so many numbers that a gold answer has under a name; none where it has no such rows there."""
    try:
        rows = np.asarray(gold[name], dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return []
    if rows.ndim == 1:
        rows = rows[None]
    fits = rows.ndim == 2 and rows.shape[1] == numbers and np.isfinite(rows).all()
    return [tuple(row) for row in rows.tolist()] if fits else []


def gold_places(gold: Any, size: Sequence[int]) -> list[Mark]:
    """The boxes and points of a gold answer, in pixels of a picture of `size`."""
    boxes, points = gold_rows(gold, "boxes", 4), gold_rows(gold, "points", 2)
    return [Mark("gold", "gold", region) for region in (*cut(boxes, size), *cut(points, size))]


def gold_spans(gold: Any) -> list[Mark]:
    """The spans of a gold answer, in seconds."""
    return [Mark("gold", "gold", span) for span in gold_rows(gold, "spans", 2)]


def cut(regions: Sequence[Region], size: Sequence[int]) -> list[Region]:
    """Boxes with their corners in order, or points, cut at the picture."""
    if not regions:
        return []
    corners = np.asarray(regions, dtype=np.float64).reshape(len(regions), -1, 2)
    return [tuple(row.ravel().tolist()) for row in np.clip(np.sort(corners, axis=1), 0, np.asarray(size))]


def picture(image: Image.Image, marks: Iterable[Mark], *, caption: str, side: int = SIDE) -> Html:
    """The picture with the places of `marks` as SVG over it, in coordinates of the picture's own pixels.

    What is embedded has at most `side` pixels a side.
    """
    width, height = image.size
    thumbnail = image.copy()
    thumbnail.thumbnail((side, side))
    below = element("image", href=_embedded(thumbnail), width=width, height=height)
    letter = max(width, height) / 18
    over = [_box(mark, letter) if len(mark.region) == 4 else _point(mark, letter / 2) for mark in marks]
    drawing = element("svg", below, *over, viewBox=f"0 0 {width} {height}", role="img", aria_label=caption)
    return element("figure", drawing, element("figcaption", caption))


def film(frames: np.ndarray, seconds: float, marks: Sequence[Mark], *, caption: str) -> Html:
    """Frames [T, H, W, 3] side by side over a time axis of `seconds`, and below it a row for the spans of each label.

    The frames must be evenly spread over the video, first and last included: then each is one that is shown during its
    share of the axis.
    """
    strip = element("img", src=_embedded(_side_by_side(frames)), alt=caption, class_="frames")
    rows = [_time_row(label, list(spans), seconds) for label, spans in groupby(marks, key=lambda mark: mark.label)]
    indent = element("span") if rows else None  # the column of labels
    parts = indent, strip, *rows, indent, _time_axis(seconds)
    content = element("div", *parts, class_="time" if rows else "time plain")
    return element("figure", element("div", content, class_="scroll"), element("figcaption", caption), class_="film")


def swatch(kind: str) -> Html:
    """A piece of the line that marks of a kind are drawn with, for legends."""
    lines = [element("path", d="M1 7H28", class_=f"{layer} {kind}") for layer in ("halo", "mark")]
    return element("svg", *lines, viewBox="0 0 29 14", class_="swatch", aria_hidden="true")


def _embedded(image: Image.Image) -> str:
    return data_uri(image, quality=88, subsampling=0)


def _box(mark: Mark, letter: float) -> Html:
    x1, y1, x2, y2 = (round(side, 2) for side in mark.region)
    place = {"x": x1, "y": y1, "width": round(x2 - x1, 2), "height": round(y2 - y1, 2)}
    halo = element("path", d=f"M{x1} {y1}H{x2}V{y2}H{x1}Z", class_=f"halo {mark.kind}")
    drawn = element("rect", element("title", mark.label), **place, class_=f"mark {mark.kind}")
    if mark.kind != "answer":
        return joined(halo, drawn)
    style = {"font_size": round(letter, 1), "stroke_width": round(letter / 4, 1), "class_": "number-mark"}
    number = element("text", mark.label, x=round(x1 + letter / 4, 1), y=round(y1 + letter, 1), **style)
    return joined(halo, drawn, number)


def _point(mark: Mark, arm: float) -> Html:
    """A cross at the point, with arms of that length."""
    x, y = (round(side, 2) for side in mark.region)
    lines = f"M{x - arm:.2f} {y}H{x + arm:.2f}M{x} {y - arm:.2f}V{y + arm:.2f}"
    halo = element("path", d=lines, class_=f"halo {mark.kind}")
    return joined(halo, element("path", element("title", mark.label), d=lines, class_=f"mark {mark.kind}"))


def _side_by_side(frames: np.ndarray) -> Image.Image:
    small = [Image.fromarray(frame) for frame in frames]
    for frame in small:
        frame.thumbnail(FRAME)
    width, height = small[0].size
    strip = Image.new("RGB", (width * len(small), height), "white")
    for place, frame in enumerate(small):
        strip.paste(frame.crop((0, 0, width - 1, height)), (place * width, 0))  # a pixel of white between frames
    return strip


def _time_row(label: str, marks: Sequence[Mark], seconds: float) -> Html:
    """The label, and the spans as bars on a track; parts outside the video are cut off."""
    bars = []
    for mark in marks:
        start, end = (min(max(time / seconds, 0.0), 1.0) * 100 for time in mark.region)
        place = {"x": f"{start:.2f}%", "width": f"{end - start:.2f}%", "y": 3, "height": 9, "class_": mark.kind}
        bars.append(element("rect", element("title", _spoken(mark)), **place))
    words = f"{label}: {', '.join(map(_spoken, marks))}"
    track = element("svg", *bars, height=15, class_="track", role="img", aria_label=words)
    return joined(element("span", label), track)


def _spoken(mark: Mark) -> str:
    start, end = mark.region
    return f"{start:g} to {end:g} s"


def _time_axis(seconds: float) -> Html:
    marks = []
    for tick in ticks(0, seconds):
        share = tick / seconds * 100
        anchor = "start" if share < 3 else "end" if share > 97 else "middle"
        marks.append(element("text", f"{tick:g} s", x=f"{share:.2f}%", y=12, text_anchor=anchor))
    return element("svg", *marks, height=16, aria_hidden="true")
