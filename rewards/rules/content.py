"""Pictures made of a text whose content can be counted: squares and digits in plain colours on a light ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from mmrl.core.media.pictures import pictures_of
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.tasks.content import COLOURS, GROUND, PLACES, SHAPES, SQUARE

Mask = NDArray[np.bool_]

TOUCHING = np.ones((3, 3))  # pixels that touch at a corner belong together
SMALLEST = 0.004  # the share of a picture that a thing covers; less is dirt
FRAMES = 8  # of a video that are read


@dataclass(frozen=True, slots=True)
class Thing:
    """Pixels of one colour that touch each other: the middle as shares of the picture, and the shape it has."""

    colour: str
    x: float
    y: float
    shape: str


@per_rollout
def content_match(rollout: Rollout, *, tolerance: Annotated[float, Field(gt=0, le=1)] = 0.3) -> Verdict:
    """The share of what the text says that the picture shows, for texts about squares and digits.

    Gold: `content`, a list of {`what`: square or a digit, `colour`, `count`, and perhaps `place`}. Of each entry it is
    asked whether there is such a thing, whether there are as many, and whether all of them are in their place; of the
    picture, whether there is nothing else. A pixel has a colour if no channel differs by more than `tolerance`; pixels
    that touch are a thing. Of a video up to 8 frames are read, and the score is their mean. The source `descriptions`
    makes such texts.

    >>> from PIL import Image
    >>> from mmrl.core.media.pictures import as_media
    >>> made = Image.new("RGB", (16, 16), GROUND)
    >>> made.paste(COLOURS["red"], (2, 2, 6, 6))
    >>> asked = {"content": [{"what": "square", "colour": "red", "count": 1, "place": "left half"}]}
    >>> content_match([Rollout("", asked, made=[as_media(made)])])[0].score
    1.0
    """
    content = gold(rollout, "content")
    if not content:
        return abstain("no content in the gold to look for")
    if not rollout.made:
        return unparsed("no picture was made")
    frames = [np.asarray(frame, dtype=np.float64) / 255 for frame in pictures_of(rollout.made[-1], FRAMES)]
    held = [_held(content, things(frame, tolerance)) for frame in frames]
    wrong = dict.fromkeys(text for frame in held for text, holds in frame.items() if not holds)
    score = fmean(fmean(frame.values()) for frame in held)
    return Verdict(score, f"not: {', '.join(wrong)}" if wrong else "all of it")


def _held(content: Sequence[Mapping[str, Any]], found: Sequence[Thing]) -> dict[str, bool]:
    """What the text says of a picture in which those things were found, each with whether it holds."""
    held = {text: holds for entry in content for text, holds in _statements(entry, found)}
    others = [thing for thing in found if not any(_is(thing, entry) for entry in content)]
    return {**held, "nothing else": not others and bool(found)}


def _statements(entry: Mapping[str, Any], found: Sequence[Thing]) -> list[tuple[str, bool]]:
    """What an entry says, each with whether it holds."""
    mine = [thing for thing in found if _is(thing, entry)]
    name = f"{entry['colour']} {entry['what']}"
    said = [(f"a {name}", bool(mine)), (f"{entry['count']} x {name}", len(mine) == entry["count"])]
    if place := entry.get("place"):
        x1, y1, x2, y2 = PLACES[place]
        said.append((f"{name} in the {place}", bool(mine) and all(x1 <= t.x < x2 and y1 <= t.y < y2 for t in mine)))
    return said


def _is(thing: Thing, entry: Mapping[str, Any]) -> bool:
    return (thing.colour, thing.shape) == (entry["colour"], str(entry["what"]))


def things(pixels: NDArray[np.float64], tolerance: float) -> list[Thing]:
    """The things in a picture [H, W, 3] in [0, 1]; each pixel has the nearest colour, the ground's included."""
    height, width, _ = pixels.shape
    names = [*COLOURS, ""]
    table = np.array([*COLOURS.values(), GROUND]) / 255
    gaps = np.abs(pixels[:, :, None] - table).max(axis=-1)
    nearest = np.where(gaps.min(axis=-1) <= tolerance, gaps.argmin(axis=-1), len(names) - 1)
    found = []
    for number, colour in enumerate(names[:-1]):
        labelled: Any = ndimage.label(nearest == number, structure=TOUCHING)
        labels = labelled[0]
        for part, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            mask = labels[rows, columns] == part
            if mask.sum() >= SMALLEST * height * width:
                x, y = (columns.start + columns.stop) / 2 / width, (rows.start + rows.stop) / 2 / height
                found.append(Thing(colour, x, y, shape_of(mask)))
    return found


def shape_of(mask: Mask) -> str:
    """Square, or the digit that a mask is nearest to when both are drawn in one size.

    >>> shape_of(digit_mask("7", 14)), shape_of(np.ones((4, 4), bool))
    ('7', 'square')
    """
    if mask.mean() > 0.85:
        return SQUARE
    agreement = {name: float((mask == _scaled(digit_mask(name, 7), mask.shape)).mean()) for name in SHAPES}
    return max(agreement, key=lambda name: agreement[name])


def digit_mask(digit: str, height: int) -> Mask:
    """The pixels of a digit of so many rows, cut to its width."""
    rows = np.array([[mark == "1" for mark in row] for row in SHAPES[digit].split()])
    columns = np.flatnonzero(rows.any(axis=0))
    drawn = rows[:, columns[0] : columns[-1] + 1]
    return _scaled(drawn, (height, round(height * drawn.shape[1] / drawn.shape[0])))


def _scaled(mask: Mask, shape: Sequence[int]) -> Mask:
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, mask.shape, strict=True))
    return mask[rows][:, columns]
