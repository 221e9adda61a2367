"""Texts about pictures whose content can be counted, with a picture that shows it, and texts about such videos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, user_prompt
from data_engine.sources.synthesis import Split, rng_of
from mmrl.core.config import InputError, nearest
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import as_media
from rewards.rules.content import digit_mask
from rewards.tasks.content import COLOURS, GROUND, PLACES, SHAPES, SQUARE

NUMBERS = ("no", "one", "two", "three", "four")
EVERY = 4  # of the descriptions this one is for testing
LEGIBLE = 32  # the least side of a picture with digits


def descriptions(
    *,
    n: PositiveInt,
    seed: int = 0,
    side: Annotated[int, Field(ge=16, multiple_of=4)] = 32,
    split: Split = "train",
    things: list[str] | None = None,
    most: Annotated[int, Field(ge=1, le=4)] = 3,
    video: bool = False,
) -> Iterator[Sample]:
    """`n` samples of the task `text_to_image`: a text such as "two red squares in the left half", and a picture of it.

    `things` are `square` and digits, by default square and 0 to 9; of each there are up to `most`, in a colour and in a
    half of the picture. Every fourth description is asked in the split `test` alone. The reward `content_match` counts.
    With `video` the task is `text_to_video`, and the text stands alone.
    """
    for name in things or ():
        if name not in (SQUARE, *SHAPES):
            raise InputError(f"things: unknown {name!r}; {nearest(name, [SQUARE, *SHAPES])}")
    if side < LEGIBLE and things != [SQUARE]:
        raise InputError(f"side is {side}; give {LEGIBLE} or more, or the digits cannot be read, or things: [{SQUARE}]")
    return _described(n, seed, side, split, contents(things or [SQUARE, *SHAPES], most, split), video)


def _described(
    n: int, seed: int, side: int, split: Split, known: list[dict[str, Any]], video: bool
) -> Iterator[Sample]:
    for index in range(n):
        rng = rng_of("descriptions", split, seed, index)
        entry = known[int(rng.integers(len(known)))]
        task, shown = ("text_to_video", ()) if video else ("text_to_image", (_picture(entry, side, rng),))
        prompt = user_prompt(text_of(entry), [media.kind for media in shown])
        meta = {"split": split, "licence": "CC0-1.0"}
        yield Sample("", "descriptions", task, prompt, {"content": [entry]}, shown, meta)


def _picture(entry: dict[str, Any], side: int, rng: np.random.Generator) -> Media:
    return as_media(Image.fromarray(drawn(entry, side, rng)))


def contents(things: list[str], most: int, split: Split) -> list[dict[str, Any]]:
    """Every content that a split asks for."""
    every = [
        {"what": what, "colour": colour, "count": count, "place": place}
        for what in things
        for colour in COLOURS
        for count in range(1, most + 1)
        for place in PLACES
    ]
    return [
        entry
        for number, entry in enumerate(every)
        if ((number + number // len(PLACES)) % EVERY == 0) == (split == "test")
    ]


def text_of(entry: dict[str, Any]) -> str:
    """The content in words.

    >>> text_of({"what": "7", "colour": "blue", "count": 2, "place": "left half"})
    'two blue digits 7 in the left half'
    """
    several = "s" if entry["count"] > 1 else ""
    what = SQUARE + several if entry["what"] == SQUARE else f"digit{several} {entry['what']}"
    return f"{NUMBERS[entry['count']]} {entry['colour']} {what} in the {entry['place']}"


def drawn(entry: dict[str, Any], side: int, rng: np.random.Generator) -> np.ndarray:
    """[side, side, 3] bytes: the content at random places of its half, apart from each other."""
    pixels = np.full((side, side, 3), GROUND, dtype=np.uint8)
    x1, y1, x2, y2 = (round(share * side) for share in PLACES[entry["place"]])
    wide, high = x2 - x1, y2 - y1
    columns, rows = (2, 3) if high > wide else (3, 2)
    cell = min(wide // columns, high // rows)
    mask = np.ones((cell * 2 // 3,) * 2, bool) if entry["what"] == SQUARE else digit_mask(entry["what"], cell - 1)
    for place in rng.permutation(columns * rows)[: entry["count"]]:
        row, column = divmod(int(place), columns)
        top = y1 + row * high // rows + int(rng.integers(high // rows - mask.shape[0]))
        left = x1 + column * wide // columns + int(rng.integers(wide // columns - mask.shape[1]))
        pixels[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = COLOURS[entry["colour"]]
    return pixels
