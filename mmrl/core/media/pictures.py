"""Any media item as pictures: how judges and reward heads see it."""

from __future__ import annotations

import io

from PIL import Image

from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media


def pictures_of(media: Media, frames: int) -> list[Image.Image]:
    """An image as one picture, a video as `frames` of its frames (all, if it has fewer), from the first to the last."""
    if media.kind == "image":
        return [load_image(media)]
    from mmrl.core.media.video import load_frames  # needs PyAV, which judges of images do without

    return [Image.fromarray(frame) for frame in load_frames(media, frames).frames]


def as_media(picture: Image.Image) -> Media:
    """A picture as a PNG file in memory."""
    content = io.BytesIO()
    picture.save(content, format="PNG", compress_level=1)
    return Media("image", bytes=content.getvalue(), width=picture.width, height=picture.height)
