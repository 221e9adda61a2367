"""Images and videos of others: probed, hashed and decoded, or refused with a reason."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmrl.core.files import sha256_of
from mmrl.core.media.damage import FAULTS, MAX_SCANS, has_many_scans
from mmrl.core.media.files import MediaError, Place, Source, name_of, open_place, place_of, resolve
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.video import Video, load_video, probe_video

__all__ = ["MediaError", "Video", "image_facts", "load_grey", "load_image", "load_video", "orientation_of"]
__all__ += ["plain_png", "probe", "resolve"]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")  # EPS would start a program
MAX_PIXELS = 89_478_485  # where Pillow itself begins to warn
ORIENTATION = 0x0112  # the EXIF tag; from 5 on it swaps width and height
WHITE = (255, 255, 255, 255)
STRIP = 256  # rows of a picture that are converted at a time: what lies between would be several pictures large
PLAIN_MODES = ("RGB", "RGBA", "L", "LA")


def load_image(source: Source, root: Path | None = None, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in RGB, all of it decoded, turned as its EXIF orientation says, transparency laid over white.

    The content decides the format, not the file's name. 16-bit grey is scaled to 8 bits; of an animation the first
    frame counts. With a `root`, paths start there and may not leave it.
    """
    place = place_of(source, root)
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, max_pixels)
        image.load()
        return _rgb(ImageOps.exif_transpose(image), place)


def load_grey(source: Source, root: Path | None = None, *, side: int = 64) -> Image.Image:
    """The image in grey, small but with at least `side` pixels a side where it has them: enough to compare pictures.

    JPEG is decoded at an eighth of its size and without colour where that is enough: several times faster.
    """
    place = place_of(source, root)
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        image.draft("L", (side, side))
        image.load()
        shown = ImageOps.exif_transpose(image)
        return shown if shown.mode == "L" else _rgb(shown, place).convert("L")


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
    with open_place(place) as content:
        media = replace(media, sha256=sha256_of(content))
    if kind == "video":
        return replace(media, **probe_video(place, validate=validate))
    width, height = _shown_size(place, decode=validate)
    return replace(media, width=width, height=height)


def image_facts(source: Source, root: Path | None = None) -> dict[str, str]:
    """What is unusual about an image, by code: `wrong_extension`, `animated`, `image_mode`, `alpha`, `orientation`.

    `load_image` copes with all of them; other programs may show the picture in another way.
    """
    place = place_of(source, root)
    facts: dict[str, str] = {}
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        form, orientation = image.format or "", image.getexif().get(ORIENTATION, 1)
        suffix = place.suffix.lower() if isinstance(place, Path) else ""
        named = Image.registered_extensions().get(suffix) if suffix else form
        if named != form and (named, form) != ("JPEG", "MPO"):  # what many cameras call JPEG
            facts["wrong_extension"] = f"{name_of(place)} is a file of the format {form}"
        if form != "MPO" and getattr(image, "is_animated", False):
            facts["animated"] = "it holds several pictures, of which the first counts"
        if image.mode not in PLAIN_MODES:
            facts["image_mode"] = f"its pixels are of mode {image.mode}, not one of {', '.join(PLAIN_MODES)}"
        if image.has_transparency_data:
            facts["alpha"] = "it is transparent in places, which are shown white"
        if orientation in range(2, 9):
            facts["orientation"] = f"it is stored turned: EXIF orientation {orientation}"
    return facts


def orientation_of(source: Source, root: Path | None = None) -> int:
    """The EXIF orientation of an image, 1 to 8; from 5 on it swaps width and height."""
    place = place_of(source, root)
    with open_place(place) as file, _pillow_errors(place):
        found = _header(file, place, MAX_PIXELS).getexif().get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def plain_png(source: Source, root: Path | None = None) -> bytes:
    """The image as every program shows it alike: an upright 8-bit RGB PNG, pixel by pixel what `load_image` gives."""
    content = io.BytesIO()
    load_image(source, root).save(content, "PNG")
    return content.getvalue()


def _kind(place: Place) -> MediaKind:
    try:
        _shown_size(place)
    except MediaError as error:
        if error.reason != "unreadable":
            raise
        return "video"
    return "image"


def _shown_size(place: Place, *, decode: bool = False) -> tuple[int, int]:
    """(width, height) after EXIF rotation: from the header alone, or after every pixel was decoded."""
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        width, height = image.size
        turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in range(5, 9)  # TIFF turns on its own
        if decode:
            if image.format in ("JPEG", "MPO"):
                _check_scans(file, place)
            image.load()
            _check_range(image, place)
            if fault := FAULTS.get(image.format or "", lambda _: None)(file):
                raise MediaError(fault[0], f"{name_of(place)} is damaged ({fault[1]}); get the whole file")
        return (height, width) if turned else (width, height)


def _header(file: BinaryIO, place: Place, max_pixels: int) -> Image.Image:
    image = Image.open(file, formats=_formats())
    if image.width * image.height > max_pixels:
        raise MediaError(
            "bomb",
            f"{name_of(place)} has {image.width}x{image.height} pixels, the limit is {max_pixels}; scale it down",
        )
    if image.info.get("progressive"):
        _check_scans(file, place)
    return image


def _check_scans(file: BinaryIO, place: Place) -> None:
    position = file.tell()
    if has_many_scans(file):
        raise MediaError("bomb", f"{name_of(place)} has more than {MAX_SCANS} scans; save it again")
    file.seek(position)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_range(image: Image.Image, place: Place) -> None:
    """Refuse pixels of which nobody knows which number is white."""
    known = image.mode != "F"
    if image.mode.startswith("I"):
        low, high = image.getextrema()
        known = low >= 0 and high <= 65535  # pyright: ignore[reportOperatorIssue]
    if not known:
        what = "float" if image.mode == "F" else "32-bit"
        why = f"has {what} pixels of no known range; save it with 8 or 16 bits"
        raise MediaError("unreadable", f"{name_of(place)} {why}")


def _rgb(image: Image.Image, place: Place) -> Image.Image:
    _check_range(image, place)
    if image.mode.startswith("I"):
        return _by_strips(image, _from_16_bits)
    return _by_strips(image, _on_white) if image.has_transparency_data else image.convert("RGB")


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The RGB image that `convert` makes of each strip: the memory of one picture, not of several."""
    made = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        bottom = min(top + STRIP, image.height)
        made.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return made


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits a pixel as RGB; `convert` alone would clip at 255 and give a white picture."""
    grey = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


@contextlib.contextmanager
def _pillow_errors(place: Place) -> Iterator[None]:
    """Whatever Pillow raises on a file, as a MediaError."""
    name = name_of(place)
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd metadata, many for one file
            yield
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("bomb", f"{name}: {error}") from None
    except UnidentifiedImageError:
        known = ", ".join(_formats())
        raise MediaError("unreadable", f"{name} is not an image of a known format ({known})") from None
    except Exception as error:  # on damaged bytes its decoders raise nearly anything
        if any(word in str(error).lower() for word in ("truncated", "broken data stream", "unexpected end")):
            raise MediaError("truncated", f"{name} is cut off ({error}); get the whole file") from None
        raise MediaError("unreadable", f"{name} does not decode: {type(error).__name__}: {error}") from None
