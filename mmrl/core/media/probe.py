"""Probing: the kind, hash and measures of an image or video, or the reason why it cannot be used."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from mmrl.core.files import sha256_of
from mmrl.core.media.files import MediaError, Place, Source, open_place, place_of
from mmrl.core.media.image import image_size, size_in
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.video import probe_video

Opened = io.BytesIO | io.BufferedReader


def probe(source: Source, kind: MediaKind | None = None, *, root: Path | None = None, validate: bool = True) -> Media:
    """`source` as a Media with its hash and measures filled in; without a kind, the content says which it is.

    `validate` decodes every pixel and every frame. Without it only headers are read, and `num_frames` of a video stays
    None: it is the number of frames that were seen to decode.
    """
    place = place_of(source, root)
    kind = kind or (source.kind if isinstance(source, Media) else _kind(place))
    if isinstance(source, Media):
        media = replace(source, kind=kind)
    else:
        media = Media(kind, bytes=source) if isinstance(source, bytes) else Media(kind, path=str(source))
    with open_place(place) as file:
        if kind == "image":
            return probe_image(file, place, media, validate=validate)
        media = replace(media, sha256=sha256_of(file))
    return replace(media, **probe_video(place, validate=validate))


def probe_image(file: Opened, place: Place, media: Media, *, validate: bool = True) -> Media:
    """The image `media` of an open file with its hash and measures."""
    sha256 = sha256_of(file)
    file.seek(0)
    width, height = size_in(file, place, decode=validate)
    return replace(media, sha256=sha256, width=width, height=height)


def _kind(place: Place) -> MediaKind:
    try:
        image_size(place)
    except MediaError as error:
        if error.reason != "unreadable":
            raise
        return "video"
    return "image"
