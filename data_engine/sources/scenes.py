"""Handwritten digits on photographs, asked about in the ways of many tasks, and sums without a picture.

The material is that of `data_engine.sources.synthesis`. One picture can be detected, read, added up, described and
asked about, so that the recipes of papers run without a network. Everything is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from data_engine.schema import Sample, user_prompt
from data_engine.sources.synthesis import Placed, Split, cropped, photographs, picture_with_digits, png, rng_of
from mmrl.core.media.item import Media

Ask = Literal["detection", "find", "ocr", "math", "caption", "open"]

BARS = {"red": (220, 30, 30), "green": (30, 160, 30), "blue": (40, 60, 220), "orange": (240, 150, 20)}
TOP = 10  # of the scale of a chart


def digits_scene(*, n: int, ask: Ask, seed: int = 0, split: Split = "train", side: int = 192) -> Iterator[Sample]:
    """Photographs with two to four different digits, and one question about each.

    `ask`: `detection` (all digits with their boxes), `find` (one digit, which is absent in a third of the pictures),
    `ocr` (the digits from left to right), `math` (their sum), `caption` (a description, with its facts as `units` and
    its keywords as `chain`), `open` (where one digit is).
    """
    for index in range(n):
        rng = rng_of(f"scene-{ask}", split, seed, index)
        picture, placed = picture_with_digits(rng, split, side, count=int(rng.integers(2, 5)))
        placed = sorted(placed, key=lambda each: each.box[0])
        absent = [digit for digit in range(10) if digit not in {each.digit for each in placed}]
        target = placed[int(rng.integers(len(placed)))]
        missing = int(rng.choice(absent)) if rng.random() < 1 / 3 else None
        task, question, answer, rationale = _asked(ask, placed, target, missing, side)
        media = Media("image", bytes=png(picture))
        meta = {"split": split, "rationale": rationale, "licence": "BSD-3-Clause"}
        yield Sample("", f"digits_scene_{ask}", task, user_prompt(question, ["image"]), answer, (media,), meta)


def bar_charts(*, n: int, seed: int = 0, split: Split = "train", side: int = 192) -> Iterator[Sample]:
    """Charts of two to four coloured bars on a scale from 0 to 10, drawn on a photograph; one bar is to be read."""
    for index in range(n):
        rng = rng_of("bars", split, seed, index)
        names = [list(BARS)[i] for i in rng.permutation(len(BARS))[: int(rng.integers(2, 5))]]
        heights = [int(height) for height in rng.integers(1, TOP + 1, size=len(names))]
        asked = int(rng.integers(len(names)))
        media = Media("image", bytes=png(_chart(rng, split, side, names, heights)))
        meta = {"split": split, "rationale": f"the {names[asked]} bar", "licence": "BSD-3-Clause"}
        question = f"How high is the {names[asked]} bar?"
        answer = {"text": [str(heights[asked])]}
        yield Sample("", "bar_charts", "chart", user_prompt(question, ["image"]), answer, (media,), meta)


def sums(*, n: int, seed: int = 0, split: Split = "train", most: int = 20) -> Iterator[Sample]:
    """Sums and products of two or three whole numbers up to `most`, as text; the task is mathematics."""
    for index in range(n):
        rng = rng_of("sums", split, seed, index)
        a, b, c = (int(number) for number in rng.integers(1, most + 1, size=3))
        text, value = ((f"{a} + {b}", a + b), (f"{a} + {b} - {c}", a + b - c), (f"{a} x {b}", a * b))[index % 3]
        meta = {"split": split, "rationale": text, "licence": "CC0-1.0"}
        yield Sample("", "sums", "math", user_prompt(f"What is {text}?"), {"math": str(value)}, (), meta)


def _asked(
    ask: Ask, placed: list[Placed], target: Placed, missing: int | None, side: int
) -> tuple[str, str, dict[str, Any], str]:
    """The task, the question, the gold answer and the reasoning."""
    places = [place_of(each, side) for each in placed]
    digits = [str(each.digit) for each in placed]
    seen = "I see " + " ".join(digits)
    match ask:
        case "detection":
            return "detection", "Find every digit.", _boxes(placed), seen
        case "find":
            wanted = target.digit if missing is None else missing
            found = [each for each in placed if each.digit == wanted]
            centres = [[(each.box[0] + each.box[2]) / 2, (each.box[1] + each.box[3]) / 2] for each in found]
            return "detection", f"Find the {wanted}.", {**_boxes(found), "points": centres}, seen
        case "ocr":
            return "ocr", "Read the digits from left to right.", {"text": ["".join(digits)]}, seen
        case "math":
            total = str(sum(map(int, digits)))
            return "math", "What is the sum of the digits?", {"math": total}, " + ".join(digits)
        case "open":
            where = place_of(target, side)
            return "open", f"Where is the {target.digit}?", {"references": [f"The {target.digit} is {where}."]}, seen
        case "caption":
            facts = [f"a {digit} {place}" for digit, place in zip(digits, places, strict=True)]
            answer = {
                "references": ["A photograph with " + ", ".join(facts) + "."],
                "units": [f"There is {fact}." for fact in facts],
                "chain": {"digits": digits, "places": [place.removeprefix("at the ") for place in places]},
            }
            return "caption", "Describe the picture.", answer, seen


def place_of(placed: Placed, side: int) -> str:
    """Where the middle of a digit is, by quarters of the picture."""
    x1, y1, x2, y2 = placed.box
    return f"at the {'top' if y1 + y2 < side else 'bottom'} {'left' if x1 + x2 < side else 'right'}"


def _boxes(placed: list[Placed]) -> dict[str, Any]:
    boxes = [list(map(float, each.box)) for each in placed]
    return {"boxes": boxes, "labels": [str(each.digit) for each in placed]}


def _chart(rng: np.random.Generator, split: Split, side: int, names: list[str], heights: list[int]) -> np.ndarray:
    """Bars with a grid line at every second step of the scale, on a faded photograph."""
    photo = cropped(rng, photographs(split), side, side)
    canvas = Image.fromarray((photo * 0.3 + 255 * 0.7).astype(np.uint8))
    draw, step = ImageDraw.Draw(canvas), (side - 8) / TOP
    for line in range(0, TOP + 1, 2):
        draw.line([(0, side - 4 - line * step), (side, side - 4 - line * step)], fill=(120, 120, 120))
    width = side / len(names)
    for place, (name, height) in enumerate(zip(names, heights, strict=True)):
        left = place * width + width / 5
        draw.rectangle([left, side - 4 - height * step, left + width * 3 / 5, side - 4], fill=BARS[name])
    return np.asarray(canvas)
