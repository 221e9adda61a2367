"""Images: decoded as they are to be shown, or refused with a reason."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

from mmrl.core.config import InputError, RunError
from mmrl.core.media.damage import FAULTS, MAX_SCANS, has_many_scans
from mmrl.core.media.files import (
    MAX_PIXELS,
    MediaError,
    Place,
    Source,
    Stamp,
    check_machine,
    name_of,
    open_place,
    place_of,
    stamp,
)
from mmrl.core.media.pixels import profile_change, to_rgb, white_of

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")  # EPS would start a program
ORIENTATION = 0x0112  # the EXIF tag; from 5 on it swaps width and height
PLAIN_MODES = ("RGB", "RGBA", "L", "LA")


def load_image(source: Source, root: Path | None = None, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in RGB, all of it decoded, turned as its EXIF orientation says: `mmrl.core.media.pixels`.

    The content decides the format, not the file's name. Of an animation the first frame counts. With a `root`, paths
    start there and may not leave it.
    """
    place = place_of(source, root)
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, max_pixels)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def load_grey(source: Source, root: Path | None = None, *, side: int = 64) -> Image.Image:
    """The image in grey, small but with at least `side` pixels a side where it has them: enough to compare pictures.

    JPEG is decoded at an eighth of its size and without colour where that is enough: several times faster.
    """
    place = place_of(source, root)
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        converted = profile_change(image) is not None
        image.draft("RGB" if converted else "L", (side, side))
        image.load()
        upright = ImageOps.exif_transpose(image)
        return upright if upright.mode == "L" and not converted else to_rgb(upright).convert("L")


def facts_in(file: BinaryIO, place: Place) -> dict[str, str]:
    """The unusual properties of an open image file by code: `wrong_extension`, `animated`, `image_mode`, `alpha`,
    `orientation`, `pixel_aspect`.

    `load_image` handles all of them; other programs may show the picture differently.
    """
    facts: dict[str, str] = {}
    with _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        form, orientation = image.format or "", image.getexif().get(ORIENTATION, 1)
        suffix = place.suffix.lower() if isinstance(place, Path) else ""
        named = Image.registered_extensions().get(suffix) if suffix else form
        if named != form and (named, form) != ("JPEG", "MPO"):  # what many cameras call JPEG
            facts["wrong_extension"] = f"{name_of(place)} is a file of the format {form}"
        if form != "MPO" and getattr(image, "is_animated", False):
            facts["animated"] = "it holds several pictures; the first one is used"
        if image.mode not in PLAIN_MODES:
            facts["image_mode"] = f"its pixels are of mode {image.mode}, not one of {', '.join(PLAIN_MODES)}"
        if image.has_transparency_data:
            facts["alpha"] = "parts of it are transparent; they are shown white"
        if (aspect := _pixel_aspect(image)) != 1:
            facts["pixel_aspect"] = f"{name_of(place)} says that its pixels are {aspect:.3g} times as wide as high"
        if orientation in range(2, 9):
            facts["orientation"] = f"it is stored turned: EXIF orientation {orientation}"
    return facts


class Shape(NamedTuple):
    """(width, height) of an image as it is shown, and its EXIF orientation, 1 to 8; from 5 on it swaps the two."""

    size: tuple[int, int]
    orientation: int


def image_shape(source: Source, root: Path | None = None) -> Shape:
    """The shape of an image from its header; an unchanged file is opened once per process."""
    place = place_of(source, root)
    return _shape_at(place) if isinstance(place, bytes) else _shape_of_file(place, stamp(place))


@functools.lru_cache(maxsize=4096)
def _shape_of_file(place: Path, _: Stamp) -> Shape:
    return _shape_at(place)


def _shape_at(place: Place) -> Shape:
    with open_place(place) as file, _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        orientation = image.getexif().get(ORIENTATION, 1)
        return Shape(_shown_size(image), orientation if orientation in range(1, 9) else 1)


def plain_png(source: Source, root: Path | None = None) -> bytes:
    """The pixels of `load_image` as an upright 8-bit RGB PNG, which every program shows in the same way."""
    content = io.BytesIO()
    load_image(source, root).save(content, "PNG")
    return content.getvalue()


def image_size(place: Place, *, decode: bool = False) -> tuple[int, int]:
    """(width, height) after EXIF rotation: from the header alone, or after every pixel was decoded."""
    with open_place(place) as file:
        return size_in(file, place, decode=decode)


def size_in(file: BinaryIO, place: Place, *, decode: bool = False) -> tuple[int, int]:
    """The same of the open file of a place."""
    with _pillow_errors(place):
        image = _header(file, place, MAX_PIXELS)
        size = _shown_size(image)
        if decode:
            if image.format in ("JPEG", "MPO"):
                _check_scans(file, place)
            image.load()
            white_of(image)
            if fault := FAULTS.get(image.format or "", lambda _: None)(file):
                raise MediaError(fault[0], f"{name_of(place)} is damaged ({fault[1]}); get the whole file")
        return size


def _shown_size(image: Image.Image) -> tuple[int, int]:
    turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in range(5, 9)  # TIFF turns on its own
    width, height = image.size
    return (height, width) if turned else (width, height)


def _pixel_aspect(image: Image.Image) -> float:
    """The width of a pixel over its height by the file's resolutions; 1 where they are equal, missing or nonsense."""
    info = image.info
    shape = info.get("jfif_density") if info.get("jfif_unit") == 0 else None
    given = info.get("aspect") or shape or info.get("dpi") or info.get("resolution")
    try:
        across, down = map(float, given)  # pyright: ignore[reportArgumentType]
        aspect = down / across
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0
    return aspect if 0.25 <= aspect <= 4 and not 0.97 < aspect < 1.03 else 1.0


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


@contextlib.contextmanager
def _pillow_errors(place: Place) -> Iterator[None]:
    """Turns everything that Pillow raises on a file into a MediaError."""
    name = name_of(place)
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd metadata, many for one file
            yield
    except (InputError, RunError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("bomb", f"{name}: {error}") from None
    except UnidentifiedImageError:
        known = ", ".join(_formats())
        raise MediaError("unreadable", f"{name} is not an image of a known format ({known})") from None
    except Exception as error:  # on damaged bytes its decoders raise nearly anything
        check_machine(error, name)
        if any(word in str(error).lower() for word in ("truncated", "broken data stream", "unexpected end")):
            raise MediaError("truncated", f"{name} is cut off ({error}); get the whole file") from None
        raise MediaError("unreadable", f"{name} does not decode: {type(error).__name__}: {error}") from None
