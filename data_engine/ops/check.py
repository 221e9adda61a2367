"""Operators on one sample at a time: is it whole, and is it wanted?"""

from __future__ import annotations

import functools
from dataclasses import replace

from pydantic import PositiveInt

from data_engine.media import MediaError, probe
from data_engine.ops.base import Quarantined, drops, each, quarantine
from data_engine.rules import validate_sample
from data_engine.schema import Media, MediaKind, Sample


@each
def validate(sample: Sample) -> Sample | Quarantined:
    """The sample with its media decoded, hashed and measured; one that breaks a rule of its task is quarantined."""
    try:
        probed = replace(sample, media=tuple(map(_probed, sample.media)))
    except MediaError as error:
        return quarantine(sample, error.reason, str(error))
    fault = validate_sample(probed)
    return replace(quarantine(probed, fault.reason, ""), why=fault.message) if fault else probed  # it names the sample


@drops
def min_pixels(sample: Sample, *, pixels: PositiveInt = 28 * 28) -> str | None:
    """Drop samples with an image or video smaller than `pixels`."""
    too_small = any((media.width or 0) * (media.height or 0) < pixels for media in sample.media)
    return "too_small" if too_small else None


@drops
def only_tasks(sample: Sample, *, tasks: list[str]) -> str | None:
    """Drop samples of any other task."""
    return None if sample.task in tasks else f"task_{sample.task}"


def _probed(media: Media) -> Media:
    if media.bytes is not None or media.path is None:
        return probe(media)
    return replace(_probed_file(media.path, media.kind), start=media.start, end=media.end)


@functools.lru_cache(maxsize=10_000)
def _probed_file(path: str, kind: MediaKind) -> Media:
    """Many questions may be about one file: it is decoded once per process."""
    return probe(path, kind)
