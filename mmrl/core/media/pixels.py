"""The pixel rules: how a picture that Pillow has opened becomes 8-bit sRGB.

Every reader of images goes through `to_rgb`, in this order:

1. Range. Grey of 16 and 32 bits (modes `I;16*` and `I`) has its white at the first of 255, 4095 and 65535 that its
   values do not exceed: cameras store 12 bits in 16, and programs 8 bits in 32. Float pixels within [0, 1] have their
   white at 1. All others, depths and 32-bit counts, have no agreed white and are scaled from their own least to their
   own largest value; pixels that are not finite numbers are refused. Pillow itself cuts colours of 16 bits to their
   upper 8.
2. Colour. An embedded ICC profile is converted to sRGB (LittleCMS, perceptual intent). Left as they are: profiles that
   are sRGB but for rounding (`SAME`), broken ones, and those of other channels than the picture has, as viewers do.
   CMYK without a profile is converted by Pillow's formula.
3. Transparency. Whatever is transparent is laid over white.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageCms

STRIP = 256  # rows that are converted at a time: the steps between would hold several pictures
WHITE = (255, 255, 255, 255)
WHITES = (255, 4095, 65535)  # of 8, 12 and 16 bits
SAME = 2  # of 255: a profile that moves no colour further is sRGB
SRGB = ImageCms.createProfile("sRGB")
CHANNELS = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}  # colour space of a profile -> mode that it applies to

Change = tuple[str, ImageCms.ImageCmsTransform]  # a mode, and its conversion to sRGB


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB; ValueError if its pixels are not finite numbers."""
    white = white_of(image)
    change = profile_change(image)
    if white is not None:
        return _by_strips(image, lambda strip: _srgb(_eight_bits(strip, *white), change))
    if image.has_transparency_data:
        return _by_strips(image, lambda strip: _on_white(strip, change))
    if change:
        return _by_strips(image, lambda strip: _srgb(strip, change))
    plain = image.convert("RGB")
    plain.info.pop("icc_profile", None)  # else a PNG would embed it
    return plain


def white_of(image: Image.Image) -> tuple[float, float] | None:
    """The values that are shown black and white of pixels beyond 8 bits; None of all others."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    strips = [np.asarray(strip) for strip in _strips(image)]
    if image.mode == "F" and not all(np.isfinite(strip).all() for strip in strips):
        raise ValueError("some of its float pixels are not finite numbers")
    low, high = min(float(strip.min()) for strip in strips), max(float(strip.max()) for strip in strips)
    usual = (1,) if image.mode == "F" else WHITES
    return next(((0, white) for white in usual if low >= 0 and high <= white), (low, high))


def profile_change(image: Image.Image) -> Change | None:
    """The conversion that the embedded profile of a picture asks for; None if there is nothing to convert."""
    change = _change(image.info.get("icc_profile") or b"")
    grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    fits = {"L": grey, "CMYK": image.mode == "CMYK", "RGB": image.mode not in ("CMYK", "LAB")}
    return change if change and fits[change[0]] else None


@functools.lru_cache(maxsize=64)  # few cameras and programs write most profiles
def _change(content: bytes) -> Change | None:
    mode = CHANNELS.get(content[16:20])
    if mode is None:
        return None
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(content)), SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    sample = _sample(mode)
    away = np.subtract(ImageCms.applyTransform(sample, transform), sample.convert("RGB"), dtype=np.int16)  # pyright: ignore
    return (mode, transform) if np.abs(away).max() > SAME else None


def _sample(mode: str) -> Image.Image:
    """A picture of colours from all over the space of a mode."""
    levels = np.linspace(0, 255, 256 if mode == "L" else 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(Image.new(mode, (1, 1)).getbands())), axis=-1)
    return Image.frombytes(mode, (colours.size // colours.shape[-1], 1), colours.tobytes())


def _srgb(image: Image.Image, change: Change | None) -> Image.Image:
    if change is None:
        return image.convert("RGB")
    mode, transform = change
    return ImageCms.applyTransform(image.convert(mode), transform)  # pyright: ignore[reportReturnType]


def _on_white(image: Image.Image, change: Change | None) -> Image.Image:
    image = image.convert("RGBA")
    if change is not None:
        alpha = image.getchannel("A")
        image = _srgb(image, change)
        image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _eight_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    """Grey of 8 bits, rounded; `convert` alone would clip at 255 and give a white picture."""
    if image.mode == "F":
        scaled = (np.asarray(image, np.float64) - low) * (255 / (high - low) if high > low else 0) + 0.5
    else:
        span = int(high - low) or 1
        scaled = ((np.asarray(image).astype(np.int64) - int(low)) * 255 + span // 2) // span
    return Image.fromarray(scaled.astype(np.uint8))


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The RGB image that `convert` makes of each strip: the memory of one picture, not of several."""
    made = Image.new("RGB", image.size)
    for number, strip in enumerate(_strips(image)):
        made.paste(convert(strip), (0, number * STRIP))
    return made


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    for top in range(0, image.height, STRIP):
        yield image.crop((0, top, image.width, min(top + STRIP, image.height)))
