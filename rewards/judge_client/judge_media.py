"""Pictures and video frames as a judge gets them: decoded here, scaled down, sent as data URIs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from mmrl.core.media.data_uri import data_uri
from mmrl.core.media.files import Stamp, content_hash, place_of, stamp
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import pictures_of

QUALITY = 90  # of JPEG


@dataclass(frozen=True)
class Shown:
    """A media item that the judge sees, under a label; `size_of` is an image whose size it is given."""

    media: Media
    label: str = ""
    size_of: Media | None = None


def shown(media: Sequence[Media]) -> tuple[Shown, ...]:
    """All media of a rollout, numbered."""
    return tuple(Shown(item, f"{item.kind.capitalize()} {number}:") for number, item in enumerate(media, 1))


def digest(item: Shown) -> str:
    """Identifies the pictures: the hashes of the item and of the image that gives the size, and the cut of a video."""
    contents = [item.media, *([item.size_of] if item.size_of else [])]
    cut = f"@{item.media.start}-{item.media.end}" if (item.media.start, item.media.end) != (None, None) else ""
    return "+".join(map(content_hash, contents)) + cut


def data_uris(item: Shown, max_pixels: int, max_frames: int) -> tuple[str, ...]:
    """One picture, or the frames of a video, as data URIs of JPEG files of at most `max_pixels` pixels each."""
    stamps = [stamp(place_of(one)) for one in (item.media, item.size_of) if one]
    return _encoded(item, tuple(stamps), max_pixels, max_frames)


@functools.lru_cache(maxsize=32)  # the rollouts of a group show the judge the same picture, one after the other
def _encoded(item: Shown, stamps: tuple[Stamp, ...], max_pixels: int, max_frames: int) -> tuple[str, ...]:
    pictures = pictures_of(item.media, max_frames)
    if item.size_of:
        (like,) = pictures_of(item.size_of, 1)
        pictures = [picture.resize(like.size) for picture in pictures]
    return tuple(data_uri(_shrunk(picture, max_pixels), quality=QUALITY) for picture in pictures)


def _shrunk(picture: Image.Image, max_pixels: int) -> Image.Image:
    shrink = (max_pixels / (picture.width * picture.height)) ** 0.5
    if shrink >= 1:
        return picture
    return picture.resize((max(int(picture.width * shrink), 1), max(int(picture.height * shrink), 1)))
