"""Checks of boxes, points and spans: numbers that cannot be meant as they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from data_engine.measure.measures import is_number
from data_engine.schema import Sample
from data_engine.validate.fault import Fault, Limits
from mmrl.core.media.item import Media, shown_seconds

Box = list[float]
SMALLEST_UNIT = 8  # pixels a side above which boxes between 0 and 1 cannot be meant as pixels


def box_not_finite(sample: Sample, _: Limits) -> Fault | None:
    """A box with NaN or an infinite number."""
    broken = [box for box in _boxes(sample) if not all(map(math.isfinite, box))]
    return Fault(f"{broken[0]} of boxes holds a number that is not finite; give four numbers") if broken else None


def box_xywh(sample: Sample, limits: Limits) -> Fault | None:
    """Boxes that are not corners, but lie in the picture if they are read as x, y, width, height.

    A flat box proves nothing, and a format that the source declared (`meta.box_format`) is not questioned.
    """
    boxes, picture = _boxes(sample), _only_picture(sample)
    turned = any(x1 > x2 or y1 > y2 for x1, y1, x2, y2 in boxes)
    shares = all(0 <= side <= 1 for box in boxes for side in box)  # then it may be a centre, width and height too
    if picture is None or not turned or shares or sample.meta.get("box_format"):
        return None
    corners = [[x, y, x + width, y + height] for x, y, width, height in boxes]
    if any(_is_reversed(box) or _over(box, picture) > limits.over_edge for box in corners):
        return None
    why = "they end before they begin as corners, and lie in the picture as x, y, width, height"
    return Fault(f"{boxes[0]} of boxes: {why}; declare boxes: xywh", _with_boxes(sample, corners))


def box_order(sample: Sample, _: Limits) -> Fault | None:
    """A box whose second corner is not right of its first and below it."""
    boxes = _boxes(sample)
    broken = [box for box in boxes if _is_reversed(box)]
    if not broken:
        return None
    ordered = [[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)] for x1, y1, x2, y2 in boxes]
    flat = any(x1 == x2 or y1 == y2 for x1, y1, x2, y2 in boxes)
    message = f"{broken[0]} of boxes must be corners x1, y1, x2, y2 with x1 < x2 and y1 < y2"
    return Fault(message, None if flat else _with_boxes(sample, ordered))


def box_space(sample: Sample, _: Limits) -> Fault | None:
    """Boxes or points that all lie between 0 and 1 in a picture of many pixels."""
    picture = _only_picture(sample)
    places, name = (_boxes(sample), "boxes") if sample.answer.get("boxes") else (_points(sample), "points")
    small = picture is None or min(picture.width or 0, picture.height or 0) < SMALLEST_UNIT
    if small or not places or any(not 0 <= side <= 1 for place in places for side in place):
        return None
    return Fault(f"{places[0]} of {name}: all coordinates are between 0 and 1; declare space: unit")


def box_over_edge(sample: Sample, limits: Limits) -> Fault | None:
    """A box that reaches a little over the edge, within the limit `over_edge`."""
    boxes, picture = _boxes(sample), _only_picture(sample)
    over = [box for box in boxes if picture and 0 < _over(box, picture) <= limits.over_edge]
    if not over or picture is None:
        return None
    return Fault(f"{over[0]} of boxes reaches over the edge of {_media(sample)}", _clipped(sample, picture))


def box_outside(sample: Sample, limits: Limits) -> Fault | None:
    """A box that reaches over the edge of every image or video by more than the limit `over_edge`."""
    outside = [box for box in _boxes(sample) if not _lies_in_some(box, sample, limits)]
    if not outside:
        return None
    picture = _only_picture(sample)
    half = picture and all(_area(_cut(box, picture)) >= _area(box) / 2 for box in outside)
    advice = (
        "modes: {box_outside: fix} of validate clips it, limits: {over_edge: PIXELS} allows it"
        if half
        else "boxes are pixels here: if the source writes them otherwise, declare it (`mmrl data lint-boxes` tells)"
    )
    message = f"{outside[0]} of boxes lies outside of {_media(sample)}; {advice}"
    return Fault(message, _clipped(sample, picture) if picture and half else None)


def box_area(sample: Sample, limits: Limits) -> Fault | None:
    """A box that covers too small or too large a share of the picture."""
    picture = _only_picture(sample)
    whole = (picture.width or 0) * (picture.height or 0) if picture else 0
    for box in _boxes(sample) if whole else ():
        share = _area(box) / whole
        if not limits.min_box_share <= share <= limits.max_box_share + 1e-9:
            allowed = f"{limits.min_box_share:g} to {limits.max_box_share:g}"
            return Fault(f"{box} of boxes covers {share:.3g} of the picture; allowed is {allowed}")
    return None


def box_repeated(sample: Sample, _: Limits) -> Fault | None:
    """A box that is there twice, with the same label where there are labels."""
    boxes, labels = _boxes(sample), sample.answer.get("labels")
    labels = labels if isinstance(labels, list) and len(labels) == len(boxes) else None
    keys = [(*box, repr(labels[place]) if labels else "") for place, box in enumerate(boxes)]
    seen: dict[tuple[Any, ...], int] = {}
    for place, key in enumerate(keys):
        seen.setdefault(key, place)
    first = list(seen.values())
    if len(first) == len(boxes):
        return None
    repeated = next(box for place, box in enumerate(boxes) if seen[keys[place]] != place)
    answer = {**sample.answer, "boxes": [boxes[place] for place in first]}
    if labels:
        answer["labels"] = [labels[place] for place in first]
    return Fault(f"{repeated} of boxes occurs twice", replace(sample, answer=answer))


def no_box_space(sample: Sample, _: Limits) -> Fault | None:
    """Boxes or points of a source that does not declare their coordinate space."""
    places = _boxes(sample) or sample.answer.get("points")
    if not places or sample.meta.get("box_space"):
        return None
    return Fault("the source does not declare the space of its boxes; set space: pixel, unit, per_mille or resized")


def span_order(sample: Sample, _: Limits) -> Fault | None:
    """A span that ends before it begins."""
    spans = _spans(sample)
    broken = [span for span in spans if span[0] > span[1]]
    fixed = _with_spans(sample, [[min(span), max(span)] for span in spans])
    return Fault(f"{broken[0]} of spans ends before it begins", fixed) if broken else None


def span_not_seconds(sample: Sample, limits: Limits) -> Fault | None:
    """Spans far after the end of the video that lie in it if they are read as frame numbers or milliseconds."""
    spans, video = _spans(sample), _only_video(sample)
    seconds = shown_seconds(video) if video else None
    if not spans or video is None or not seconds:
        return None
    last = max(end for _, end in spans)
    fits = ["frame numbers"] if last <= (video.num_frames or 0) else []
    fits += ["milliseconds"] if seconds / 10 <= last / 1000 <= seconds + limits.over_end else []
    whole = all(float(side).is_integer() for span in spans for side in span)
    if not fits or not whole or last < 2 * seconds + limits.over_end:
        return None
    return Fault(f"{spans[0]} of spans, in a video of {seconds:.1f} seconds, reads as {fits[0]}; give seconds")


def span_over_end(sample: Sample, limits: Limits) -> Fault | None:
    """A span that ends a little after the video, within the limit `over_end`."""
    spans, video = _spans(sample), _only_video(sample)
    seconds = shown_seconds(video) if video else None
    over = [span for span in spans if seconds and seconds < span[1] <= seconds + limits.over_end]
    if not over or not seconds:
        return None
    cut = [[start, min(end, seconds) if end <= seconds + limits.over_end else end] for start, end in spans]
    fixed = _with_spans(sample, cut) if all(start < end for start, end in cut) else None
    return Fault(f"{over[0]} of spans ends after a video of {seconds:.2f} seconds", fixed)


def point_outside(sample: Sample, limits: Limits) -> Fault | None:
    """A point that lies in none of the media, by more than the limit `over_edge`."""
    outside = [point for point in sample.answer.get("points", ()) if not _lies_in_some(point, sample, limits)]
    return Fault(f"{outside[0]} of points lies outside of {_media(sample)}; give pixels") if outside else None


def span_outside(sample: Sample, limits: Limits) -> Fault | None:
    """A span that ends after every video by more than the limit `over_end`."""
    lengths = [shown_seconds(media) for media in sample.media if media.kind == "video"]
    for span in sample.answer.get("spans", ()):
        if not any(seconds is None or span[1] <= seconds + limits.over_end for seconds in lengths):
            return Fault(f"{span} of spans ends after videos of {lengths} seconds")
    return None


def bad_cut(sample: Sample, _: Limits) -> Fault | None:
    """A start and an end with nothing in between."""
    for media in sample.media:
        start, end = media.start or 0.0, math.inf if media.end is None else media.end
        most = math.inf if media.duration is None else media.duration
        if not (0 <= start < end and start < most):  # of NaN, too
            return Fault(f"start {media.start} and end {media.end} cut nothing out of {media.duration} seconds")
    return None


def _boxes(sample: Sample) -> list[Box]:
    """The boxes, if they are lists of four numbers; other values are `bad_answer`."""
    return _rows(sample.answer.get("boxes"), 4)


def _points(sample: Sample) -> list[list[float]]:
    return _rows(sample.answer.get("points"), 2)


def _spans(sample: Sample) -> list[list[float]]:
    spans = _rows(sample.answer.get("spans"), 2)
    return spans if all(math.isfinite(side) for span in spans for side in span) else []


def _rows(value: Any, width: int) -> list[list[float]]:
    rows = value if isinstance(value, list | tuple) else ()
    return [list(row) for row in rows] if all(_is_row(row, width) for row in rows) else []


def _is_row(row: Any, width: int) -> bool:
    return isinstance(row, list | tuple) and len(row) == width and all(map(is_number, row))


def _only_picture(sample: Sample) -> Media | None:
    """The one image or video that places can refer to, with its size; None if there are several or none."""
    only = sample.media[0] if len(sample.media) == 1 else None
    return only if only and only.width and only.height else None


def _only_video(sample: Sample) -> Media | None:
    videos = [media for media in sample.media if media.kind == "video"]
    return videos[0] if len(videos) == 1 else None


def _is_reversed(box: Sequence[float]) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]


def _lies_in_some(place: Sequence[float], sample: Sample, limits: Limits) -> bool:
    return any(_over(place, media) <= limits.over_edge for media in sample.media)


def _over(place: Sequence[float], picture: Media) -> float:
    """How many pixels a box or point reaches over the edges; without a known size, over the left and upper one."""
    width, height = picture.width or math.inf, picture.height or math.inf
    return max(-min(place), max(place[0::2]) - width, max(place[1::2]) - height)


def _cut(box: Sequence[float], picture: Media) -> Box:
    width, height = picture.width or 0, picture.height or 0
    return [min(max(side, 0.0), (width, height)[place % 2]) for place, side in enumerate(box)]


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def _clipped(sample: Sample, picture: Media) -> Sample | None:
    boxes = [_cut(box, picture) for box in _boxes(sample)]
    return None if any(map(_is_reversed, boxes)) else _with_boxes(sample, boxes)


def _with_boxes(sample: Sample, boxes: list[Box]) -> Sample:
    return replace(sample, answer={**sample.answer, "boxes": boxes})


def _with_spans(sample: Sample, spans: list[list[float]]) -> Sample:
    return replace(sample, answer={**sample.answer, "spans": sorted(spans)})


def _media(sample: Sample) -> str:
    sizes = ", ".join(f"{media.width}x{media.height}" for media in sample.media)
    return f"media of {sizes} pixels" if sizes else "the sample, which has no media"
