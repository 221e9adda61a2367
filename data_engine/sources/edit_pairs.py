"""Pairs of edits of one photograph, one as instructed and one not, for verifiers that learn from preferences.

An instruction names an operation and a place. Each operation gives a picture that is edited everywhere. The right edit
takes its place from that picture; a faulty one takes too little, too much, or another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from pydantic import PositiveInt

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import existing
from data_engine.sources.synthesis import Split, cropped, digit_tile, photographs, png, rng_of
from mmrl.core.config import InputError
from mmrl.core.files import sha256_of
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media

Box = tuple[int, int, int, int]
Operation = Literal["recolour", "blur", "remove", "paste", "crop"]
Fault = Literal["partial", "overdone", "wrong"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255)}
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
HALVES = ("left", "right", "top", "bottom")
OPPOSITE = dict(zip(HALVES, ("right", "left", "bottom", "top"), strict=True))
SIDE = 64  # the least that is of use: a digit is three eighths of it
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Edits:
    """An instruction, the picture it is about, and the picture edited right and with a fault."""

    instruction: str
    before: Image.Image
    right: Image.Image
    faulty: Image.Image


def edit_pairs(
    photos: str | None = None,
    *,
    n: PositiveInt,
    seed: int = 0,
    out: Path | None = None,
    side: PositiveInt = 192,
    split: Split = "train",
    root: Path = Path(),
) -> Iterator[Sample]:
    """`n` pairs of samples of the task `preference`, each with a source picture and an edit of it.

    The two samples of a pair share `meta["pair"]` and the question; `meta["preferred"]` says which edit is right.
    `photos` is a folder of pictures; the default is the photographs of installed packages, others for each split. With
    `out` (below `root`) the pictures are written to that folder, without it the samples contain their bytes.
    """
    if side < SIDE:
        raise InputError(f"side is {side}; give {SIDE} or more, or the digits in the pictures cannot be read")
    files = _files(existing(root, photos, "folder of photographs")) if photos is not None else []
    return _pairs(files, n, seed, None if out is None else root / out, side, split)


def _pairs(files: list[Path], n: int, seed: int, out: Path | None, side: int, split: Split) -> Iterator[Sample]:
    opened = [load_image(str(file)) for file in files] or photographs(split)
    about = {"split": split} if files else {"split": split, "licence": "BSD-3-Clause"}
    for index in range(n):
        rng, fault = rng_of("edits", split, seed, index), FAULTS[index % len(FAULTS)]
        edits = _distinct(rng, opened, side, split, fault)
        sides = ["right", fault] if rng.random() < 0.5 else [fault, "right"]
        before = _media(edits.before, out)
        asked = user_prompt(f"Is the second picture the first one after: {edits.instruction}", ["image", "image"])
        answer = {"preferred": sides.index("right"), "candidates": sides, "instruction": edits.instruction}
        for kind in sides:
            after = _media(edits.right if kind == "right" else edits.faulty, out)
            meta = {**about, "pair": f"{split}-{seed}-{index}", "preferred": kind == "right", "fault": fault}
            yield Sample("", "edit_pairs", "preference", asked, answer, (before, after), meta)


def _distinct(rng: np.random.Generator, photos: Sequence[Image.Image], side: int, split: Split, fault: Fault) -> Edits:
    """Only edits whose pictures all differ: blurring a clear sky changes nothing."""
    while True:
        operation = get_args(Operation)[int(rng.integers(len(get_args(Operation))))]
        photo = Image.fromarray(cropped(rng, photos, side, side))
        edits = _cropping(rng, photo, fault) if operation == "crop" else _editing(rng, photo, split, operation, fault)
        pictures = {(picture.size, picture.tobytes()) for picture in (edits.before, edits.right, edits.faulty)}
        if len(pictures) == 3:
            return edits


def _editing(rng: np.random.Generator, photo: Image.Image, split: Split, operation: Operation, fault: Fault) -> Edits:
    """An operation on a quarter of the picture."""
    side = photo.width
    place, other, *_ = (int(number) for number in rng.permutation(len(QUARTERS)))
    digit, another = (int(number) for number in rng.permutation(10)[:2])
    name = QUARTERS[place]
    before = photo
    if operation == "recolour":
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        instruction = f"tint the {name} quarter {colour}"
        after = Image.blend(photo, Image.new("RGB", photo.size, COLOURS[colour]), 0.5)
    elif operation == "blur":
        instruction = f"blur the {name} quarter"
        after = photo.filter(ImageFilter.GaussianBlur(side / 24))
    elif operation == "remove":
        instruction = f"remove the {digit} in the {name} quarter"
        before, after = _with_digits(rng, photo, split, {place: digit, other: another}), photo
    else:
        instruction = f"put a {digit} in the {name} quarter"
        after = _with_digits(rng, photo, split, dict.fromkeys(range(len(QUARTERS)), digit))
    x1, y1, x2, y2 = quarter = _quarter(place, side)
    reach: dict[Fault, Box] = {
        "partial": (x1, y1, (x1 + x2) // 2, y2),
        "overdone": (0, 0, side, side),
        "wrong": _quarter(other, side),
    }
    return Edits(instruction, before, _taken(before, after, quarter), _taken(before, after, reach[fault]))


def _cropping(rng: np.random.Generator, photo: Image.Image, fault: Fault) -> Edits:
    """To keep one half of the picture; too little cut off leaves three quarters, too much one."""
    half = HALVES[int(rng.integers(len(HALVES)))]
    kept: dict[Fault, tuple[str, float]] = {
        "partial": (half, 0.75),
        "overdone": (half, 0.25),
        "wrong": (OPPOSITE[half], 0.5),
    }
    return Edits(f"crop to the {half} half", photo, _kept(photo, half, 0.5), _kept(photo, *kept[fault]))


def _kept(photo: Image.Image, half: str, share: float) -> Image.Image:
    cut = round(photo.width * (1 - share))
    borders = {"left": (0, 0, cut, 0), "right": (cut, 0, 0, 0), "top": (0, 0, 0, cut), "bottom": (0, cut, 0, 0)}
    return ImageOps.crop(photo, borders[half])  # pyright: ignore[reportArgumentType]


def _taken(before: Image.Image, after: Image.Image, box: Box) -> Image.Image:
    """`before` with what `after` shows in the box."""
    edited = before.copy()
    edited.paste(after.crop(box), box)
    return edited


def _quarter(place: int, side: int) -> Box:
    row, column = divmod(place, 2)
    half = side // 2
    return (column * half, row * half, side if column else half, side if row else half)


def _with_digits(rng: np.random.Generator, photo: Image.Image, split: Split, digits: dict[int, int]) -> Image.Image:
    """The photograph with a handwritten digit on a tile of paper in each of the quarters."""
    picture, size, margin = photo.copy(), photo.width * 3 // 8, photo.width // 16
    for place, digit in digits.items():
        x, y, _, _ = _quarter(place, photo.width)
        picture.paste(Image.fromarray(digit_tile(rng, split, digit, size)), (x + margin, y + margin))
    return picture


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; photos must be a folder of pictures")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise InputError(
            f"no picture in {folder}; expected files named {', '.join('*' + suffix for suffix in PICTURES)}"
        )
    return files


def _media(picture: Image.Image, out: Path | None) -> Media:
    content = png(np.asarray(picture))
    if out is None:
        return Media("image", bytes=content)
    place = out / f"{sha256_of(content)}.png"
    out.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return Media("image", path=str(place))
