"""Edits of real photographs as a tiny verifier can see them: right, or wrong, partial or overdone.

Photographs are crops of `side` pixels; an instruction is an operation at a place ("red left"). Held-out instructions
(every fourth) occur in no training sample, and are asked about photographs that no training sample shows. Everything is
a function of the seed.

The source `edit_pairs` (data_engine.sources.editing.edit_pairs) makes larger and more varied pairs for real models.
These stay separate: the published figures of the verifier are measured on them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from data_engine.schema import Sample, user_prompt
from data_engine.sources.synthesis import Split, photographs, png
from mmrl.core.media.item import Media

Box = tuple[int, int, int, int]
QUESTIONS, CATEGORIES = ("done", "kept"), ("Follow", "Keep")
FAULTS = {"right": (1, 1, 9), "partial": (0, 1, 5), "overdone": (1, 0, 4), "wrong": (0, 0, 1)}  # done, kept, score


def _tinted(colour: tuple[int, int, int]) -> Callable[[Image.Image], Image.Image]:
    return lambda part: Image.blend(part, Image.new("RGB", part.size, colour), 0.6)


def _pasted(part: Image.Image) -> Image.Image:
    """A white disc with a dark rim in the middle."""
    part, (w, h) = part.copy(), part.size
    ImageDraw.Draw(part).ellipse((w // 4, h // 4, 3 * w // 4, 3 * h // 4), fill="white", outline="black", width=2)
    return part


OPERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "red": _tinted((255, 0, 0)),
    "green": _tinted((0, 200, 0)),
    "blue": _tinted((0, 0, 255)),
    "remove": lambda part: Image.new("RGB", part.size, (128, 128, 128)),
    "paste": _pasted,
    "blur": lambda part: part.filter(ImageFilter.GaussianBlur(6)),
    "invert": ImageOps.invert,
}
PLACES: dict[str, tuple[float, float, float, float]] = {
    "left": (0, 0, 0.5, 1),
    "right": (0.5, 0, 1, 1),
    "top": (0, 0, 1, 0.5),
    "bottom": (0, 0.5, 1, 1),
}
INSTRUCTIONS = [(operation, place) for operation in OPERATIONS for place in PLACES]
HELD_OUT = [
    instruction for i, instruction in enumerate(INSTRUCTIONS) if i % 4 == (i // 4) % 4
]  # each operation once, places in turn


def checked_edits(*, n: int, seed: int = 0, side: int = 32, doubt: float = 0.0) -> Iterator[Sample]:
    """Samples of the task `edit` for SFT: an edit, and a verifier's chain about it.

    With the probability `doubt` a chain is that of an edit of another kind, as by a verifier that often errs.
    """
    kinds = list(FAULTS)
    for index in range(n):
        rng = np.random.default_rng([seed, 1, index])
        operation, place = _instruction(rng, "train")
        source, kind = _photograph(rng, "train", side), kinds[int(rng.integers(len(kinds)))]
        edited = made(source, operation, place, kind, rng)
        claimed = kinds[int(rng.integers(len(kinds)))] if rng.random() < doubt else kind
        *points, score = FAULTS[claimed]
        listed = [
            {"question": q, "category": c, "score": p} for q, c, p in zip(QUESTIONS, CATEGORIES, points, strict=True)
        ]
        score = min(max(score + int(rng.integers(-1, 2)), 0), 10)
        answer = {"instruction": f"{operation} {place}", "principles": listed, "score": float(score)}
        yield _sample("edit", answer, source, edited, {"split": "sft", "kind": kind})


def preferred_edits(*, n: int, seed: int = 0, side: int = 32, split: Split = "train") -> Iterator[Sample]:
    """`n` pairs of samples of the task `preference`: a photograph edited right, and the same edited otherwise."""
    faults = [kind for kind in FAULTS if kind != "right"]
    for index in range(n):
        rng = np.random.default_rng([seed, 2 if split == "train" else 3, index])
        operation, place = _instruction(rng, split)
        source, fault = _photograph(rng, split, side), faults[index % len(faults)]
        sides = ["right", fault] if rng.random() < 0.5 else [fault, "right"]
        questions = [{"question": q, "category": c} for q, c in zip(QUESTIONS, CATEGORIES, strict=True)]
        answer = {"preferred": sides.index("right"), "candidates": sides, "principles": questions}
        for kind in sides:
            meta = {"split": split, "pair": f"{split}-{seed}-{index}", "preferred": kind == "right", "fault": fault}
            gold = answer | {"instruction": f"{operation} {place}"}
            yield _sample("preference", gold, source, made(source, operation, place, kind, rng), meta)


def made(source: Image.Image, operation: str, place: str, kind: str, rng: np.random.Generator) -> Image.Image:
    """`source` edited right, or with a fault: half of the place, all of the picture, or something else elsewhere."""
    if kind == "right":
        return _applied(source, operation, PLACES[place])
    if kind == "partial":
        x1, y1, x2, y2 = PLACES[place]
        half = (x1, y1, x2, y1 + (y2 - y1) / 2) if x2 - x1 < y2 - y1 else (x1, y1, x1 + (x2 - x1) / 2, y2)
        return _applied(source, operation, half)
    if kind == "overdone":
        return _applied(source, operation, (0, 0, 1, 1))
    others = [name for name in OPERATIONS if name != operation]
    places = [name for name in PLACES if name != place]
    return _applied(source, others[int(rng.integers(len(others)))], PLACES[places[int(rng.integers(len(places)))]])


def _applied(source: Image.Image, operation: str, place: tuple[float, float, float, float]) -> Image.Image:
    box: Box = tuple(round(share * side) for share, side in zip(place, source.size * 2, strict=True))  # pyright: ignore[reportAssignmentType]
    edited = source.copy()
    edited.paste(OPERATIONS[operation](source.crop(box)), box)
    return edited


def _instruction(rng: np.random.Generator, split: Split) -> tuple[str, str]:
    known = HELD_OUT if split == "test" else [pair for pair in INSTRUCTIONS if pair not in HELD_OUT]
    return known[int(rng.integers(len(known)))]


def _photograph(rng: np.random.Generator, split: Split, side: int) -> Image.Image:
    """A random crop of a random photograph of the split."""
    photographs = _photographs(split)
    photo = photographs[int(rng.integers(len(photographs)))]
    w = int(min(photo.size) * rng.uniform(0.5, 1.0))
    x, y = int(rng.integers(0, photo.width - w + 1)), int(rng.integers(0, photo.height - w + 1))
    return photo.resize((side, side), Image.Resampling.BILINEAR, box=(x, y, x + w, y + w))


@functools.cache
def _photographs(split: Split) -> list[Image.Image]:
    """Those of `data_engine.sources.synthesis`, small enough to be cropped thousands of times."""
    small = [photo.copy() for photo in photographs(split)]
    for photo in small:
        photo.thumbnail((320, 320))
    return small


def _sample(
    task: Literal["edit", "preference"], answer: dict, source: Image.Image, edited: Image.Image, meta: dict
) -> Sample:
    text = f"{answer['instruction']}: {' '.join(QUESTIONS)}?"
    media = tuple(
        Media("image", bytes=png(np.asarray(part)), width=part.width, height=part.height) for part in (source, edited)
    )
    return Sample("", "edits", task, user_prompt(text, ["image", "image"]), answer, media, meta)
