"""Edits of photographs: pairs, one as instructed and one not, for verifiers, and single edits for editors.

An instruction names an operation and a place. The right edit has the operation in its place; a faulty one has it in too
small or too large a place, or in another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import existing
from data_engine.sources.synthesis import Split, cropped, digit_tile, photographs, png, rng_of
from mmrl.core.config import InputError, nearest
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

Change = Callable[[Image.Image], Image.Image]


def _tinted(colour: str) -> Change:
    return lambda part: Image.blend(part, Image.new("RGB", part.size, COLOURS[colour]), 0.6)


CHANGES: dict[str, tuple[str, Change]] = {  # of a part of a picture: how it is asked for, and what it makes of the part
    **{colour: (f"tint the {{place}} {colour}", _tinted(colour)) for colour in COLOURS},
    "invert": ("invert the {place}", ImageOps.invert),
    "cover": ("cover the {place} with grey", lambda part: Image.new("RGB", part.size, (128, 128, 128))),
    "blur": ("blur the {place}", lambda part: part.filter(ImageFilter.GaussianBlur(max(part.size) / 12))),
    "mirror": ("mirror the {place}", ImageOps.mirror),
}
PLACES: dict[str, tuple[float, float, float, float]] = {  # shares of the width and the height
    **dict(zip((f"{half} half" for half in HALVES),
               ((0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1)), strict=True)),
    **{f"{name} quarter": (place % 2 / 2, place // 2 / 2, place % 2 / 2 + 0.5, place // 2 / 2 + 0.5)
       for place, name in enumerate(QUARTERS)},
}  # fmt: skip
EVERY = 4  # of the instructions this one is for testing


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
    files = picture_files(existing(root, photos, "folder of photographs")) if photos is not None else []
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


def edits(
    photos: str | None = None,
    *,
    n: PositiveInt,
    seed: int = 0,
    side: Annotated[int, Field(ge=8, multiple_of=2)] = 192,
    split: Split = "train",
    changes: list[str] | None = None,
    right: Annotated[float, Field(ge=0, le=1)] = 1.0,
    ask: Literal["edit", "name"] = "edit",
    root: Path = Path(),
) -> Iterator[Sample]:
    """`n` samples of the task `edit` for editors: a photograph, and the edit of it that the instruction asks for.

    `changes` are some of red, green, blue, invert, cover, blur and mirror. Every fourth instruction, of a change and
    one of eight places, is asked in the split `test` alone. `right` is the share of right edits; the others have a
    fault that `meta["kind"]` names, as the edits of a careless editor. With `ask: name` they are of the task `text`:
    both pictures are shown, and the instruction is to be named. `photos` as in `edit_pairs`.
    """
    check_changes(changes or ())
    files = picture_files(existing(root, photos, "folder of photographs")) if photos is not None else []
    made = _edits(files, n, seed, side, split, changes or list(CHANGES), right)
    return made if ask == "edit" else map(_named, made)


def check_changes(changes: Sequence[str]) -> None:
    """InputError for a change that is not known."""
    for name in changes:
        if name not in CHANGES:
            raise InputError(f"changes: unknown {name!r}; {nearest(name, CHANGES)}")


def _edits(
    files: list[Path], n: int, seed: int, side: int, split: Split, changes: list[str], right: float
) -> Iterator[Sample]:
    opened = [load_image(str(file)) for file in files] or photographs(split)
    about = {"split": split} if files else {"split": split, "licence": "BSD-3-Clause"}
    asked = instructions(changes, split)
    for index in range(n):
        rng = rng_of("editor", split, seed, index)
        change, place = asked[int(rng.integers(len(asked)))]
        photo = Image.fromarray(cropped(rng, opened, side, side))
        kind = "right" if rng.random() < right else FAULTS[int(rng.integers(len(FAULTS)))]
        instruction = CHANGES[change][0].format(place=place)
        media = (_media(photo, None), _media(versions(photo, change, place, changes)[kind], None))
        meta = {**about, "kind": kind, "change": change, "place": place}
        prompt = user_prompt(instruction, ["image", "image"])
        yield Sample("", "edits", "edit", prompt, {"instruction": instruction}, media, meta)


def _named(sample: Sample) -> Sample:
    """The question what was done to the first picture."""
    prompt = user_prompt("What was done?", ["image", "image"])
    return replace(sample, task="text", prompt=prompt, answer={"text": [sample.answer["instruction"]]})


def instructions(changes: Sequence[str], split: Split) -> list[tuple[str, str]]:
    """The changes, each with the places where a split asks for it."""
    return [
        (change, place)
        for row, change in enumerate(changes)
        for column, place in enumerate(PLACES)
        if ((row + column) % EVERY == 0) == (split == "test")
    ]


def versions(photo: Image.Image, change: str, place: str, changes: Sequence[str]) -> dict[str, Image.Image]:
    """`photo` edited right, and with each fault; the wrong edit is the next one of the `changes` in the next place."""
    names, places = list(changes), list(PLACES)
    other, elsewhere = (row[(row.index(now) + 1) % len(row)] for row, now in ((names, change), (places, place)))
    return {
        "right": changed(photo, change, PLACES[place]),
        "partial": changed(photo, change, first_half(PLACES[place])),
        "overdone": changed(photo, change, (0, 0, 1, 1)),
        "wrong": changed(photo, other, PLACES[elsewhere]),
    }


def first_half(place: tuple[float, ...]) -> tuple[float, ...]:
    """The left half of a place, or the upper one if it is higher than wide."""
    x1, y1, x2, y2 = place
    return (x1, y1, (x1 + x2) / 2, y2) if x2 - x1 >= y2 - y1 else (x1, y1, x2, (y1 + y2) / 2)


def changed(photo: Image.Image, change: str, place: tuple[float, ...]) -> Image.Image:
    """`photo` with a change in a place, given in shares of its sides."""
    x1, y1, x2, y2 = (round(share * side) for share, side in zip(place, photo.size * 2, strict=True))
    edited = photo.copy()
    edited.paste(CHANGES[change][1](photo.crop((x1, y1, x2, y2))), (x1, y1))
    return edited


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


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder by name; InputError if it has none."""
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
