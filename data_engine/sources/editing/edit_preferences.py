"""Pairs of edits of a photograph of which one is as instructed: for heads that score edits, a fault at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, user_prompt
from data_engine.sources.base import existing
from data_engine.sources.editing.edit_pairs import (
    CHANGES,
    PLACES,
    changed,
    check_changes,
    first_half,
    instructions,
    picture_files,
    versions,
)
from data_engine.sources.synthesis import Split, cropped, photographs, rng_of
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media

Flaw = Literal["partial", "overdone", "operation", "place", "nothing"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


def edit_preferences(
    photos: str | None = None,
    *,
    n: PositiveInt,
    seed: int = 0,
    side: Annotated[int, Field(ge=8, multiple_of=2)] = 192,
    split: Split = "train",
    changes: list[str] | None = None,
    faults: list[Flaw] | None = None,
    root: Path = Path(),
) -> Iterator[Sample]:
    """`n` pairs of samples of the task `preference`: an instruction, a photograph, and an edit of it, right or with a
    fault.

    The two samples of a pair share `meta["pair"]`; `meta["preferred"]` says which edit is right, `meta["fault"]` what
    is wrong with the other one, each of the `faults` in turn: `partial` (half of the place), `overdone` (all of the
    picture), `operation` (another change in the place), `place` (the change beside it) and `nothing` (no change). In
    the split `train` no fault is what an instruction for testing asks for, where there is another: a head would learn
    that it is always wrong. Instructions, and `changes`, `split` and `photos`, are those of `edits`.
    """
    check_changes(changes or ())
    if changes and len(set(changes)) < 2:
        raise InputError(f"changes: {changes} has no other operation; give two or more")
    files = picture_files(existing(root, photos, "folder of photographs")) if photos is not None else []
    return _pairs(files, n, seed, side, split, changes or list(CHANGES), faults or FLAWS)


def _pairs(
    files: Sequence[Path], n: int, seed: int, side: int, split: Split, changes: Sequence[str], faults: Sequence[Flaw]
) -> Iterator[Sample]:
    opened = [load_image(str(file)) for file in files] or photographs(split)
    about = {"split": split} if files else {"split": split, "licence": "BSD-3-Clause"}
    asked = instructions(changes, split)
    shown = asked if split == "train" else instructions(changes, "train") + instructions(changes, "test")
    for index in range(n):
        rng, fault = rng_of("preferred", split, seed, index), faults[index % len(faults)]
        change, place, photo, right, faulty = _distinct(rng, opened, side, asked, shown, changes, fault)
        instruction = CHANGES[change][0].format(place=place)
        prompt = user_prompt(instruction, ["image", "image"])
        sides = ["right", fault] if rng.random() < 0.5 else [fault, "right"]
        answer = {"preferred": sides.index("right"), "candidates": sides, "instruction": instruction}
        for kind in sides:
            media = as_media(photo), as_media(right if kind == "right" else faulty)
            meta = {**about, "pair": f"{split}-{seed}-{index}", "preferred": kind == "right", "fault": fault}
            meta |= {"change": change, "place": place}
            yield Sample("", "edit_preferences", "preference", prompt, answer, media, meta)


def _distinct(
    rng: np.random.Generator,
    photos: Sequence[Image.Image],
    side: int,
    asked: Sequence[tuple[str, str]],
    shown: Sequence[tuple[str, str]],
    changes: Sequence[str],
    fault: Flaw,
) -> tuple[str, str, Image.Image, Image.Image, Image.Image]:
    """(change, place, photograph, right edit, faulty edit): the edits differ, and the right one from the photograph."""
    while True:
        change, place = asked[int(rng.integers(len(asked)))]
        part = next((name for name, box in PLACES.items() if box == first_half(PLACES[place])), None)
        if fault == "partial" and part and (change, part) not in shown:
            continue
        photo = Image.fromarray(cropped(rng, photos, side, side))
        made = versions(photo, change, place, changes)
        right, faulty = made["right"], made.get(fault) or _faulty(rng, photo, change, place, shown, changes, fault)
        if right.tobytes() not in (photo.tobytes(), faulty.tobytes()):
            return change, place, photo, right, faulty


def _faulty(
    rng: np.random.Generator,
    photo: Image.Image,
    change: str,
    place: str,
    shown: Sequence[tuple[str, str]],
    changes: Sequence[str],
    fault: Flaw,
) -> Image.Image:
    """`photo` with another change, or with the change in another place, one of `shown` if there is any."""
    if fault == "nothing":
        return photo
    if fault == "operation":
        others = [(name, place) for name in changes if name != change]
    else:
        others = [(change, other) for other, box in PLACES.items() if _apart(box, PLACES[place])]
    others = [other for other in others if other in shown] or others
    name, elsewhere = others[int(rng.integers(len(others)))]
    return changed(photo, name, PLACES[elsewhere])


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two places do not overlap."""
    return min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])
