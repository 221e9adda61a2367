"""Image files: decoded as they are to be shown, or refused with a reason."""

from __future__ import annotations

import hashlib
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from tests.support.odd_media import SKIMAGE, SKLEARN, encoded


def reason(source: Any, root: Path | None = None, **options: Any) -> str:
    with pytest.raises(MediaError) as caught:
        load_image(source, root, **options)
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("file", "size"),
    [
        (SKLEARN / "china.jpg", (640, 427)),
        (SKLEARN / "flower.jpg", (640, 427)),
        (SKIMAGE / "astronaut.png", (512, 512)),
        (SKIMAGE / "coins.png", (384, 303)),  # grey
        (SKIMAGE / "logo.png", (500, 500)),  # transparent
        (SKIMAGE / "multipage.tif", (10, 15)),
        (SKIMAGE / "no_time_for_that_tiny.gif", (14, 25)),
    ],
)
def test_pictures_of_the_world_are_rgb_and_probed(file: Path, size: tuple[int, int]) -> None:
    image, media = load_image(file), probe(file)
    assert (image.mode, image.size) == ("RGB", size)
    assert (media.kind, media.width, media.height) == ("image", *size)
    assert media.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert probe(file, validate=False) == media


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_exif_orientation_says(form: str, orientation: int, photo: Image.Image) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # counterclockwise: orientation 6 is shown turned clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo.transpose(undo[orientation]) if orientation in undo else photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    picture = load_image(content)
    assert picture.size == photo.size
    close = 20 if form == "JPEG" else 0
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(photo)).mean() <= close
    for validate in (True, False):
        media = probe(content, validate=validate)
        assert (media.width, media.height) == photo.size


def test_the_content_decides_not_the_name(tmp_path: Path, photo: Image.Image) -> None:
    png = tmp_path / "photo.jpg"
    png.write_bytes(encoded(photo, "PNG"))
    assert np.array_equal(np.asarray(load_image(png)), np.asarray(photo))
    text = tmp_path / "text.jpg"
    text.write_text("this is no picture")
    assert reason(text) == "unreadable"
    with pytest.raises(MediaError, match=r"text\.jpg"):
        probe(text)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "WEBP"])
def test_a_picture_that_was_cut_off_is_refused(form: str, photo: Image.Image) -> None:
    content = encoded(photo, form)
    expected = {"unreadable"} if form == "WEBP" else {"truncated"}  # WebP does not tell why
    assert {reason(content[: len(content) * share // 100]) for share in (50, 80, 95)} == expected


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "empty"
    assert reason(tmp_path / "gone.jpg") == "missing"
    assert reason(tmp_path) == "missing"
    assert reason("") == "missing"
    assert reason("a\0b.jpg") == "missing"
    assert reason("\ud83d.jpg") == "missing"
    assert reason(tmp_path / ("x" * 300)) == "unreadable"
    assert reason(Media("image")) == "missing"
    assert reason(b"") == "empty"
    with pytest.raises(MediaError, match=r"gone\.jpg"):
        load_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize(
    "path", ["https://example.com/a.jpg", "file:///etc/hosts", "s3://b/a.jpg", "data:image/png,AA"]
)
def test_remote_files_are_refused(path: str, tmp_path: Path) -> None:
    assert reason(path) == "remote"
    assert reason(path, tmp_path) == "remote"


def test_no_path_leaves_its_root(tmp_path: Path, photo: Image.Image) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.png"
    (root / "sub").mkdir(parents=True)
    photo.save(outside)
    photo.save(root / "inside.png")
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "kind.png").symlink_to("inside.png")
    for path in (
        "../outside.png",
        str(outside),
        "link.png",
        "folder/outside.png",
        "sub/../../outside.png",
        "/etc/hosts",
    ):
        assert reason(path, root) == "outside_root"
    for path in ("inside.png", "sub/../inside.png", "kind.png", str(root / "inside.png")):
        assert load_image(path, root).size == photo.size
    assert probe("inside.png", root=root).path == "inside.png"


def test_a_bomb_is_not_unpacked() -> None:
    assert reason(SKLEARN / "china.jpg", max_pixels=640 * 427 - 1) == "bomb"
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    png = b"\x89PNG\r\n\x1a\n" + body
    assert reason(png) == "bomb"
    with pytest.raises(MediaError) as caught:
        probe(png, validate=False)
    assert caught.value.reason == "bomb"


def test_formats_that_start_programs_are_not_read() -> None:
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n") == "unreadable"


def test_probing_keeps_the_given_fields(photo: Image.Image) -> None:
    given = Media("image", bytes=encoded(photo, "PNG"))
    media = probe(given)
    assert (media.bytes, media.width, media.height) == (given.bytes, 60, 40)


def test_an_error_crosses_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(MediaError("cut", "clip.mp4 is cut")))
    assert (error.reason, str(error)) == ("cut", "clip.mp4 is cut")
