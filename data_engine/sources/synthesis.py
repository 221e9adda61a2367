"""Visual tasks made from real material: handwritten digits (scikit-learn) on photographs (scikit-learn, scikit-image).

A digit is an 8x8 scan of handwriting, printed dark on a light paper tile and laid on a crop of a photograph, so gold
boxes and times are exact. `split="test"` uses other handwriting and other photographs than `split="train"`. Everything
is a function of the seed.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.media.item import Media

Split = Literal["train", "test"]
Box = tuple[int, int, int, int]

PHOTOGRAPHS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("sklearn.datasets", "images/china.jpg"),
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/chelsea.png"),
        ("skimage", "data/rocket.jpg"),
        ("skimage", "data/motorcycle_left.png"),
    ),
    "test": (("sklearn.datasets", "images/flower.jpg"), ("skimage", "data/coffee.png")),
}
# One thread, and no macroblock tree: x264 decides by memory it never wrote there, and the same frames give other bytes.
X264 = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}


@dataclass(frozen=True, slots=True)
class Placed:
    """A digit on a picture: its value and its xyxy box in pixels."""

    digit: int
    box: Box


def digits_grounding(*, n: int, seed: int = 0, split: Split = "train", side: int = 192) -> Iterator[Sample]:
    """Photographs with one to three different digits; the task is to locate one of them ("Locate the 7.")."""
    for index in range(n):
        rng = rng_of("grounding", split, seed, index)
        picture, placed = picture_with_digits(rng, split, side, count=int(rng.integers(1, 4)))
        target = placed[0]
        answer = {"boxes": [list(map(float, target.box))]}
        rationale, media = f"the {target.digit} is here", Media("image", bytes=png(picture))
        question = f"Locate the {target.digit}."
        yield _sample("digits_grounding", "grounding", question, answer, media, split, rationale)


def digits_count(*, n: int, seed: int = 0, split: Split = "train", side: int = 192) -> Iterator[Sample]:
    """Photographs with one to four digits; the task is to count them."""
    for index in range(n):
        rng = rng_of("count", split, seed, index)
        count = int(rng.integers(1, 5))
        picture, placed = picture_with_digits(rng, split, side, count=count)
        rationale = " ".join(map(str, sorted(one.digit for one in placed)))
        media = Media("image", bytes=png(picture))
        question, answer = "How many digits are there?", {"number": float(count)}
        yield _sample("digits_count", "count", question, answer, media, split, rationale)


def digits_reading(
    *,
    n: int,
    seed: int = 0,
    split: Split = "train",
    side: PositiveInt = 896,
    digit: Annotated[int, Field(ge=8)] = 48,
    zoom: PositiveInt | None = None,
    light: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Iterator[Sample]:
    """Large photographs with one small digit, `digit` pixels of `side`; the task is to read it. A model that sees the
    picture scaled down has to look closer. `meta.box` has the box of the digit. With `zoom` supervised answers look at
    a part of `zoom` pixels first, the nearest of a grid of half of it (`meta.calls`). `light` darkens the photograph.
    """
    if digit > side:
        raise InputError(f"digits_reading: a digit of {digit} pixels does not fit into a picture of {side}")
    if zoom is not None and not digit <= zoom <= side:
        raise InputError(f"digits_reading: zoom={zoom} pixels do not hold the digit of {digit} or leave the {side}")
    return _reading(n, seed, split, side, digit, zoom, light)


def _reading(
    n: int, seed: int, split: Split, side: int, digit: int, zoom: int | None, light: float
) -> Iterator[Sample]:
    for index in range(n):
        rng = rng_of("reading", split, seed, index)
        canvas, value = cropped(rng, photographs(split), side, side), int(rng.integers(10))
        canvas = (canvas * light).astype(np.uint8)
        [(x1, y1, x2, y2)] = free_boxes(rng, side, [digit])
        canvas[y1:y2, x1:x2] = digit_tile(rng, split, value, digit)
        question, answer, media = "Which digit is in the picture?", {"number": float(value)}, Media(bytes=png(canvas))
        sample = _sample("digits_reading", "number", question, answer, media, split, f"it is a {value}")
        meta = {**sample.meta, "box": [x1, y1, x2, y2]}
        if zoom is not None:
            x, y = (_start(low + digit // 2, zoom, side) for low in (x1, y1))
            meta["calls"] = [{"name": "zoom", "parameters": {"box": [x, y, x + zoom, y + zoom]}}]
        yield replace(sample, meta=meta)


def _start(middle: int, part: int, side: int) -> int:
    """Where the part of a side begins that has `middle` nearest to its own, of those half of a `part` apart."""
    step = max(part // 2, 1)
    return min(max(round((middle - part / 2) / step) * step, 0), side - part)


def digits_video(
    *,
    n: int,
    seed: int = 0,
    split: Split = "train",
    side: Annotated[int, Field(ge=16, multiple_of=2)] = 128,  # H.264 knows no odd ones
    seconds: Annotated[float, Field(ge=1.5)] = 4.0,  # two spans of a second, the second half a second later
    fps: PositiveInt = 8,
    ask: Literal["when", "which"] = "when",
) -> Iterator[Sample]:
    """H.264 clips of a slow pan over a photograph on which two digits appear and disappear, at half-second marks.

    A clip lasts `seconds` at `fps` frames a second. `ask="when"` asks for the time span of one digit (temporal
    grounding), `ask="which"` for the digit that appears first.
    """
    for index in range(n):
        rng = rng_of(f"video-{ask}", split, seed, index)
        spans = _spans(rng, seconds)
        frames, digits = _clip(rng, split, side, spans, frames=round(seconds * fps), fps=fps)
        if ask == "when":
            pick = int(rng.integers(2))
            task, question = "temporal", f"When is the {digits[pick]} visible?"
            answer, rationale = {"spans": [list(spans[pick])]}, f"the {digits[pick]} is here"
        else:
            task, question = "number", "Which digit comes first?"
            answer, rationale = {"number": float(digits[0])}, f"{digits[0]} then {digits[1]}"
        media = Media("video", bytes=mp4(frames, fps))
        yield _sample(f"digits_video_{ask}", task, question, answer, media, split, rationale)


def _sample(
    source: str, task: str, question: str, answer: dict[str, Any], media: Media, split: Split, rationale: str
) -> Sample:
    meta = {"split": split, "rationale": rationale, "licence": "BSD-3-Clause"}
    return Sample("", source, task, user_prompt(question, [media.kind]), answer, (media,), meta)


def rng_of(*key: str | int) -> np.random.Generator:
    """A generator whose draws depend on the key alone."""
    return np.random.default_rng([word for part in key for word in _words(part)])


def _words(part: str | int) -> Iterator[int]:
    """The eight first letters of a text, and all digits of a number, as numbers."""
    letters = str(part).encode()
    for at in range(0, 8 if isinstance(part, str) else len(letters), 8):
        yield int.from_bytes(letters[at : at + 8], "little")


def picture_with_digits(
    rng: np.random.Generator, split: Split, side: int, *, count: int
) -> tuple[np.ndarray, list[Placed]]:
    """A photograph crop of `side` by `side` pixels with `count` different digits that do not overlap."""
    canvas = cropped(rng, photographs(split), side, side)
    sizes = [int(size) for size in rng.integers(side // 4, side * 3 // 8, size=count)]
    boxes = free_boxes(rng, side, sizes)
    digits = [int(digit) for digit in rng.permutation(10)[:count]]
    for digit, (x1, y1, x2, y2) in zip(digits, boxes, strict=True):
        canvas[y1:y2, x1:x2] = digit_tile(rng, split, digit, x2 - x1)
    return canvas, [Placed(digit, box) for digit, box in zip(digits, boxes, strict=True)]


def _clip(
    rng: np.random.Generator, split: Split, side: int, spans: list[tuple[float, float]], *, frames: int, fps: int
) -> tuple[np.ndarray, list[int]]:
    """(frames [T, side, side, 3], digits): each digit is shown during its span of seconds."""
    wide = cropped(rng, photographs(split), side + frames, side)
    digits = [int(digit) for digit in rng.permutation(10)[: len(spans)]]
    size = side * 3 // 8
    tiles = [digit_tile(rng, split, digit, size) for digit in digits]
    boxes = free_boxes(rng, side, [size] * len(digits))
    clip = np.stack([wide[:, t : t + side] for t in range(frames)])
    for (start, end), tile, (x1, y1, x2, y2) in zip(spans, tiles, boxes, strict=True):
        clip[round(start * fps) : round(end * fps), y1:y2, x1:x2] = tile
    return clip, digits


def _spans(rng: np.random.Generator, seconds: float) -> list[tuple[float, float]]:
    """Two spans of at least one second on half-second marks; the first starts at least half a second earlier."""
    marks = round(seconds * 2)
    while True:
        starts = np.sort(rng.integers(0, marks - 1, size=2))
        ends = [int(rng.integers(start + 2, marks + 1)) for start in starts if start + 2 <= marks]
        if starts[0] < starts[1] and len(ends) == 2:
            return [(int(start) / 2, end / 2) for start, end in zip(starts, ends, strict=True)]


def free_boxes(rng: np.random.Generator, side: int, sizes: list[int]) -> list[Box]:
    """Squares of the given sizes at random places that do not overlap: whole layouts are drawn until one fits."""
    while True:
        corners = [tuple(int(v) for v in rng.integers(0, side - size + 1, size=2)) for size in sizes]
        boxes = [(x, y, x + size, y + size) for (x, y), size in zip(corners, sizes, strict=True)]
        if not any(_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]):
            return boxes


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def digit_tile(rng: np.random.Generator, split: Split, digit: int, size: int) -> np.ndarray:
    """A handwritten `digit` in dark ink on a light paper tile, uint8 [size, size, 3]."""
    scans = _digits()[split][digit]
    ink = Image.fromarray(scans[int(rng.integers(len(scans)))]).resize((size, size), Image.Resampling.BICUBIC)
    shade = 1 - np.asarray(ink, dtype=np.float32)[..., None] / 255
    paper = rng.integers(215, 256, size=3).astype(np.float32)
    return (paper * shade).astype(np.uint8)


def cropped(rng: np.random.Generator, photos: Sequence[Image.Image], width: int, height: int) -> np.ndarray:
    """A random crop of one of `photos`, resized to (width, height): uint8 [height, width, 3]."""
    photo = photos[int(rng.integers(len(photos)))]
    scale = float(rng.uniform(0.5, 1.0)) * min(photo.width / width, photo.height / height)
    w, h = int(width * scale), int(height * scale)
    x, y = int(rng.integers(0, photo.width - w + 1)), int(rng.integers(0, photo.height - h + 1))
    return np.array(photo.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h)))


@functools.cache
def _digits() -> dict[str, list[np.ndarray]]:
    """uint8 scans [n, 8, 8] by split and digit; every fifth scan of a digit is for testing."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    scans, labels = (np.asarray(data["images"]) * 255 / 16).astype(np.uint8), np.asarray(data["target"])
    by_digit = [scans[labels == digit] for digit in range(10)]
    return {
        "test": [digits[::5] for digits in by_digit],
        "train": [np.delete(digits, np.s_[::5], axis=0) for digits in by_digit],
    }


@functools.cache
def photographs(split: Split) -> list[Image.Image]:
    """The photographs of a split, from the packages that contain them."""
    opened = []
    for package, name in PHOTOGRAPHS[split]:
        with (importlib.resources.files(package) / name).open("rb") as file:
            opened.append(Image.open(file).convert("RGB"))
    return opened


def png(picture: np.ndarray) -> bytes:
    """A PNG file of a picture [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def mp4(frames: np.ndarray, fps: int, *, crf: int = 20) -> bytes:
    """An H.264 file of uint8 frames [T, H, W, 3]; the same frames give the same bytes. `crf` is x264's: 51 is worst."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=X264 | {"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
