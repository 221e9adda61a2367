"""Images and videos as programs write them: every format that two readers could show in two ways."""

from __future__ import annotations

import importlib.resources
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image
from sklearn.datasets import load_sample_image

from mmrl.core.media.frames import decoded, frame_table, rgb
from mmrl.core.media.image import load_image
from tests.support.clips import MILLISECOND, write_clip

SKLEARN = Path(str(importlib.resources.files("sklearn.datasets"))) / "images"
SKIMAGE = Path(str(importlib.resources.files("skimage"))) / "data"
SIDE = 84  # of images: a multiple of what models cut them into, so that no processor resizes them
UNEVEN = [0, 20, 60, 210, 230, 250, 330, 480, 500, 540, 690, 710, 720, 860, 900, 2000, 2010, 2040, 2100, 2300]


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The content of an image file."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def odd_images(folder: Path) -> dict[str, Path]:
    """An image file of every odd kind, by name."""
    photo = Image.fromarray(load_sample_image("china.jpg")).crop((100, 50, 100 + SIDE, 50 + SIDE))
    grey = np.asarray(photo.convert("L"))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1)))
    clear = Image.merge("RGBA", (*photo.split(), alpha))
    few = photo.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "transparent.png": (clear, {}),
        "transparent-grey.png": (Image.merge("LA", (photo.convert("L"), alpha)), {}),
        "transparent.webp": (clear, {"lossless": True}),
        "palette.png": (few, {"transparency": 3}),
        "palette-alpha.png": (few, {"transparency": bytes(range(0, 256, 16))}),
        "palette.gif": (few, {"transparency": 3}),
        "deep-grey.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "deep-grey.tif": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "counts.tif": (Image.fromarray(grey.astype(np.int32) * 2**16 - 5), {}),
        "float.tif": (Image.fromarray(grey.astype(np.float32) / 300), {}),
        "depth.tif": (Image.fromarray(grey.astype(np.float32) / 9 - 3), {}),
        "cmyk.jpg": (photo.convert("CMYK"), {}),
        "lab.tif": (Image.merge("LAB", photo.split()), {}),
        "turned.jpg": (photo.resize((56, SIDE)), {"exif": exif}),
        "moving.gif": (photo.convert("P"), {"save_all": True, "append_images": [few]}),
        "moving.webp": (photo, frames),
        "moving.png": (photo, frames),
    }
    for name, source in (("wide-gamut.jpg", "rocket.jpg"), ("dot-gain.png", "page.png"), ("display.png", "color.png")):
        with Image.open(SKIMAGE / source) as whole:
            piece = whole.crop((140, 60, 140 + SIDE, 60 + SIDE))
            made[name] = piece, {"icc_profile": whole.info["icc_profile"]}
            made[f"{name[:-4]}-alpha.webp"] = piece.convert("RGB"), made[name][1]
            made[f"{name[:-4]}-alpha.webp"][0].putalpha(alpha)
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return {name: folder / name for name in made}


def odd_clips(folder: Path) -> dict[str, Path]:
    """A video file of every odd kind, by name."""
    return {
        "turned.mp4": write_clip(folder / "turned.mp4", rotation=90),
        "upside-down.mp4": write_clip(folder / "upside-down.mp4", rotation=180),
        "wide-pixels.mp4": write_clip(folder / "wide-pixels.mp4", aspect=Fraction(4, 3)),
        "high-pixels.mp4": write_clip(folder / "high-pixels.mp4", aspect=Fraction(3, 4)),
        "turned-wide.mp4": write_clip(folder / "turned-wide.mp4", aspect=Fraction(2), rotation=90),
        "uneven.mp4": write_clip(folder / "uneven.mp4", len(UNEVEN), times=UNEVEN, codec_options={"g": "6", "bf": "2"}),
        "full-range.mp4": write_clip(folder / "full-range.mp4", pixel_format="yuvj420p"),
        "ten-bits.mp4": write_clip(folder / "ten-bits.mp4", pixel_format="yuv420p10le"),
        "short.mp4": write_clip(folder / "short.mp4", 5),
    }


def plain_twin(path: Path, folder: Path) -> Path:
    """A file that leaves a reader nothing to decide and holds the pixels that ours shows of `path`: an RGB PNG, or RGB
    video without loss, upright, of square pixels, with the same times."""
    if path.suffix != ".mp4":
        load_image(path).save(folder / f"{path.name}.png")
        return folder / f"{path.name}.png"
    table = frame_table(path)
    frames = [rgb(frame, table, path) for frame in decoded(path, table, range(len(table.times)))]
    target = folder / f"{path.name}.mkv"
    with av.open(target, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "bgr0"
        stream.codec_context.time_base = MILLISECOND
        for pixels, seconds in zip(frames, table.times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = round(seconds * 1000), MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target
