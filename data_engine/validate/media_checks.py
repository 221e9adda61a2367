"""Checks of images and videos: content, storage, and the declarations of their source."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from data_engine.schema import Sample
from data_engine.validate.fault import Fault, Limits
from mmrl.core.media.container_headers import declared_seconds
from mmrl.core.media.files import MediaError, Place, name_of, open_place, place_of, stamp
from mmrl.core.media.frames import decoded, frame_table, open_video
from mmrl.core.media.image import facts_in
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.probe import probe, probe_image

CLOSE = 1.0  # seconds, and
CLOSE_SHARE = 0.05  # as a share, by which a declared duration may differ: sound and picture rarely end together
HEADER_FACTOR = 2.0  # the same for headers, which also count other streams
FORMATS = {  # suffix -> FFmpeg's name of the format
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp"), "mov"),
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    **dict.fromkeys((".ts", ".m2ts", ".mts"), "mpegts"),
    **dict.fromkeys((".mpg", ".mpeg"), "mpeg"),
    **dict.fromkeys((".wmv", ".asf"), "asf"),
    **dict.fromkeys((".ogv", ".ogg"), "ogg"),
    ".avi": "avi",
    ".flv": "flv",
    ".gif": "gif",
}


class Inspected(NamedTuple):
    """The measures of a file, and its unusual properties: code -> message."""

    media: Media
    facts: dict[str, str]


def inspected(media: Media) -> Inspected:
    """The media decoded, hashed and measured; raises a MediaError if that fails. What its source declared is left."""
    if media.bytes is not None or media.path is None:
        return _inspected(media)
    result = _inspected_file(media.path, media.kind, _written(media.path))
    if isinstance(result, MediaError):
        raise result
    return result._replace(media=replace(result.media, start=media.start, end=media.end))


@functools.lru_cache(maxsize=10_000)
def _inspected_file(path: str, kind: MediaKind, _: object) -> Inspected | MediaError:
    """Many questions may be about one file: it is decoded once per process, and so is a broken one."""
    try:
        return _inspected(Media(kind, path=path))
    except MediaError as error:
        return error.with_traceback(None)


def _written(path: str) -> tuple[int, int] | None:
    """The time and size of a file, by which one that is written in its place is noticed."""
    try:
        return stamp(Path(path))
    except (OSError, ValueError):
        return None  # decoding reports what is wrong


def _inspected(media: Media) -> Inspected:
    place = place_of(media)
    if media.kind == "video":
        return Inspected(probe(media), dict(_video_facts(place)))
    with open_place(place) as file:
        measured = probe_image(file, place, media)
        file.seek(0)
        return Inspected(measured, facts_in(file, place))


def _video_facts(place: Place) -> Iterator[tuple[str, str]]:
    name, table = name_of(place), frame_table(place)
    if not table.even:
        yield "variable_rate", f"{name} shows its frames at uneven times, {table.fps:.4g} a second in the mean"
    if rotation := next(decoded(place, table, [0])).rotation:
        yield "rotation", f"{name} is stored turned by {rotation} degrees"
    declared = declared_seconds(place)
    if declared is not None and not _alike(declared, table.duration):
        yield "declared_duration", f"{name} declares {declared:.1f} seconds, its frames last {table.duration:.1f}"
    with open_video(place) as (container, _):
        form = container.format.name
    suffix = place.suffix.lower() if isinstance(place, Path) else ""
    if suffix and FORMATS.get(suffix, "no format") not in form.split(","):
        yield "wrong_extension", f"{name} is a file of the format {form}"


def _alike(declared: float, measured: float) -> bool:
    return max(declared, measured) <= HEADER_FACTOR * (min(declared, measured) + CLOSE)


def declared_faults(media: Media, measured: Media) -> Iterator[tuple[str, str]]:
    """(code, message) of each field of `media` that differs from what was measured; a source declared them."""
    declared, size = (media.width, media.height), (measured.width, measured.height)
    if None not in declared and declared != size:
        turned = "; it was declared as stored, before its EXIF rotation" if declared == size[::-1] else ""
        yield "size_mismatch", f"{_name(media)} is declared as {declared}, the {media.kind} is {size}{turned}"
    if media.num_frames is not None and media.num_frames != measured.num_frames:
        yield "frames_mismatch", f"{_name(media)} declares {media.num_frames} frames, {measured.num_frames} decode"
    if media.duration is not None and measured.duration is not None:
        gap = abs(media.duration - measured.duration)
        if not gap <= max(CLOSE, CLOSE_SHARE * measured.duration):
            lengths = f"{media.duration:.1f} seconds, its frames last {measured.duration:.1f}"
            yield "declared_duration", f"{_name(media)} is declared to last {lengths}"


def rescaled(sample: Sample, declared: Media) -> Sample | None:
    """The sample with its places scaled from the declared size to the measured one; None where that is a guess."""
    (measured,) = sample.media if len(sample.media) == 1 else (None,)
    if measured is None or not (declared.width and declared.height and measured.width and measured.height):
        return None
    x, y = measured.width / declared.width, measured.height / declared.height
    if not 0.99 < x / y < 1.01 and sample.answer.keys() & {"boxes", "points"}:
        return None  # turned or cropped: the places are unknown
    scaled = {
        name: [[round(side * (x, y)[place % 2], 4) for place, side in enumerate(row)] for row in sample.answer[name]]
        for name in sample.answer.keys() & {"boxes", "points"}
    }
    return replace(sample, answer={**sample.answer, **scaled})


def extreme_aspect(sample: Sample, limits: Limits) -> Fault | None:
    """A side that is far longer than the other."""
    for media in sample.media:
        width, height = media.width or 1, media.height or 1
        if max(width, height) > limits.max_aspect * min(width, height):
            return Fault(
                f"{_name(media)} has {width}x{height} pixels, the limit is {limits.max_aspect:g} to 1; crop it"
            )
    return None


def tiny_side(sample: Sample, limits: Limits) -> Fault | None:
    """A side that is shorter than a vision token."""
    for media in sample.media:
        if min(media.width or limits.min_side, media.height or limits.min_side) < limits.min_side:
            size = f"{media.width}x{media.height}"
            return Fault(f"{_name(media)} has {size} pixels, both sides need {limits.min_side}; give a larger one")
    return None


def _name(media: Media) -> str:
    return media.path or f"a {media.kind} of {len(media.bytes or b'')} bytes"
