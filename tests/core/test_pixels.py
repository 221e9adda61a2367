"""The pixel rules: what each kind of pixel becomes in 8-bit sRGB, on numbers that one can check by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_grey, load_image
from mmrl.core.media.probe import probe
from mmrl.core.media.video import load_frames
from tests.support.clips import write_clip
from tests.support.odd_media import SKIMAGE, encoded

TO_XYZ = np.array(
    [[0.5767309, 0.1855540, 0.1881852], [0.2973769, 0.6273491, 0.0752741], [0.0270343, 0.0706872, 0.9911085]]
)
FROM_XYZ = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)


def profile_of(name: str) -> bytes:
    with Image.open(SKIMAGE / name) as image:
        return image.info["icc_profile"]


def srgb_of_adobe(colours: np.ndarray) -> np.ndarray:
    """By the equations of Adobe RGB (1998) and IEC 61966-2-1, both of white D65."""
    linear = (colours / 255) ** (563 / 256) @ TO_XYZ.T @ FROM_XYZ.T
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)


def test_every_pixel_format_becomes_rgb(photo: Image.Image) -> None:
    grey = np.asarray(photo.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert np.array_equal(np.asarray(load_image(encoded(deep, "PNG")))[..., 0], grey)
    assert np.array_equal(np.asarray(load_image(encoded(deep, "TIFF")))[..., 0], grey)
    palette = load_image(encoded(photo.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"))
    assert np.abs(np.asarray(palette).astype(int) - np.asarray(photo)).mean() < 8
    cmyk = load_image(encoded(photo.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(np.asarray(cmyk).astype(int) - np.asarray(photo)).mean() < 8
    assert load_image(encoded(photo.convert("1"), "PNG")).mode == "RGB"


def test_transparency_shows_white(photo: Image.Image) -> None:
    clear = photo.convert("RGBA")
    clear.putalpha(0)
    half = photo.convert("RGBA")
    half.putalpha(128)
    assert np.asarray(load_image(encoded(clear, "PNG"))).min() == 255
    assert np.asarray(load_image(encoded(half, "PNG")))[0, 0].min() >= 127
    indexed = Image.new("P", (4, 4), 1)
    indexed.putpalette([0, 0, 0, 255, 0, 0])
    assert load_image(encoded(indexed, "PNG", transparency=1)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("pixels", "levels"),
    [
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),  # white is 1
        (np.array([0.25, 0.5, 0.5], np.float32), [64, 128, 128]),
        (np.array([-1, 0, 3], np.float32), [0, 64, 255]),  # from the least to the largest
        (np.array([3.5, 3.5, 3.5], np.float32), [0, 0, 0]),
        (np.array([0, 256, 65535], np.int32), [0, 1, 255]),  # white is that of 16 bits,
        (np.array([0, 100, 255], np.int32), [0, 100, 255]),  # of 8,
        (np.array([0, 2048, 4000], np.uint16), [0, 128, 249]),  # of 12
        (np.array([0, 200, 255], np.uint16), [0, 200, 255]),
        (np.array([-5, 0, 2**20], np.int32), [0, 0, 255]),
        (np.array([0, 256, 65535], np.uint16), [0, 1, 255]),
    ],
)
def test_pixels_beyond_8_bits_are_scaled_by_their_own_range(pixels: np.ndarray, levels: list[int]) -> None:
    content = encoded(Image.fromarray(np.tile(pixels, (300, 1))), "TIFF")
    decoded = np.asarray(load_image(content))
    assert probe(content).width == 3
    assert decoded.shape == (300, 3, 3)  # more than one strip
    assert (decoded == np.array(levels)[None, :, None]).all()


def test_pixels_that_are_not_numbers_are_refused() -> None:
    for value in (np.nan, np.inf):
        content = encoded(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
        for read in (probe, load_image):
            with pytest.raises(MediaError, match="finite") as caught:
                read(content)
            assert caught.value.reason == "unreadable"


def test_a_profile_other_than_srgb_is_converted() -> None:
    colours = np.array([[[100, 150, 120], [200, 180, 160], [90, 90, 90], [160, 120, 140]]], np.uint8)
    content = encoded(Image.fromarray(colours), "PNG", icc_profile=profile_of("rocket.jpg"))  # Adobe RGB (1998)
    pixels = np.asarray(load_image(content)).astype(float)
    assert np.abs(pixels - srgb_of_adobe(colours.astype(float))).max() <= 1
    assert np.abs(pixels - colours).max() > 10
    clear = Image.fromarray(colours)
    clear.putalpha(128)
    over_white = 255 + (pixels - 255) * 128 / 255
    content = encoded(clear, "PNG", icc_profile=profile_of("rocket.jpg"))
    assert np.abs(np.asarray(load_image(content)) - over_white).max() <= 1


def test_the_small_grey_picture_follows_the_profile_too() -> None:
    whole = load_image(SKIMAGE / "page.png").convert("L")  # dot gain 20%: 15 levels away in the mean
    assert np.array_equal(np.asarray(load_grey(SKIMAGE / "page.png")), np.asarray(whole))
    rocket = SKIMAGE / "rocket.jpg"
    pictures = load_image(rocket), Image.open(rocket), load_grey(rocket)
    whole, stored, small = (
        np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX), float) for picture in pictures
    )
    assert np.abs(small - whole).mean() < np.abs(small - stored).mean() / 2


def test_grey_with_a_grey_profile_and_with_one_of_colours() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    dots = np.asarray(load_image(encoded(ramp, "PNG", icc_profile=profile_of("page.png"))))
    assert (dots[..., 0] == dots[..., 1]).all()
    assert np.abs(dots[0, :, 0].astype(int) - np.arange(256)).max() > 15
    adobe = np.asarray(load_image(encoded(ramp, "PNG", icc_profile=profile_of("rocket.jpg"))))
    expected = srgb_of_adobe(np.arange(256, dtype=float)[:, None].repeat(3, 1))
    assert np.abs(adobe[0] - expected).max() <= 1
    deep = Image.fromarray(np.arange(256, dtype=np.uint16)[None] * 257)
    assert np.array_equal(np.asarray(load_image(encoded(deep, "TIFF", icc_profile=profile_of("page.png")))), dots)


def test_pixels_stay_as_they_are_under_srgb_and_under_profiles_that_say_nothing(photo: Image.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    adobe = profile_of("rocket.jpg")
    wrong = {
        "sRGB": srgb,
        "camera's sRGB": profile_of("astronaut.png"),
        "empty": b"",
        "noise": bytes(range(256)) * 3,
        "cut": adobe[:200],
        "of grey": profile_of("page.png"),
        "of an unknown space": adobe[:16] + b"ABCD" + adobe[20:],
    }
    for name, profile in wrong.items():
        content = encoded(photo, "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(load_image(content)), np.asarray(photo)), name


def test_cmyk_follows_its_own_profile_only(photo: Image.Image) -> None:
    plain = encoded(photo.convert("CMYK"), "TIFF")
    other = encoded(photo.convert("CMYK"), "TIFF", icc_profile=profile_of("rocket.jpg"))
    assert np.array_equal(np.asarray(load_image(plain)), np.asarray(load_image(other)))
    assert np.array_equal(np.asarray(load_image(plain)), np.asarray(photo.convert("CMYK").convert("RGB")))


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (128, 64)), (Fraction(3, 4), (96, 85)), (Fraction(1000, 999), (96, 64))]
)
def test_pixels_that_are_not_square_are_stretched(aspect: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 8, aspect=aspect)
    media, flat = probe(clip), load_frames(probe(write_clip(tmp_path / "flat.mp4", 8)), 3)
    assert (media.width, media.height) == size
    video = load_frames(media, 3)
    assert video.indices == flat.indices == [0, 4, 7]
    for frame, stored in zip(video.frames, flat.frames, strict=True):
        expected = Image.fromarray(stored).resize(size, Image.Resampling.BICUBIC)
        assert np.array_equal(frame, np.asarray(expected))


def test_a_turned_clip_is_stretched_along_its_stored_sides(tmp_path: Path) -> None:
    media = probe(write_clip(tmp_path / "a.mp4", 4, aspect=Fraction(2), rotation=90))
    assert (media.width, media.height) == (64, 192)


def test_pixels_of_absurd_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="frames of 106496x420") as caught:
        probe(write_clip(tmp_path / "a.mp4", 4, size=(256, 420), aspect=Fraction(416)))
    assert caught.value.reason == "bomb"
