"""Edits of pictures whose right result is known, such as those of the source `edits`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from rewards.base import Rollout, Verdict, abstain, per_rollout, unparsed

Pixels = NDArray[np.float64]


@per_rollout
def edit_match(rollout: Rollout, *, tolerance: Annotated[float, Field(gt=0, le=1)] = 0.25) -> Verdict:
    """The lower of two: how far an edit is done where it was asked for, and how far the rest is kept.

        done = max(0, 1 - mean |made - gold| / tolerance) over the pixels that the right edit changes
        kept = the same over all others, which the right edit leaves as they were

    Pixels are in [0, 1]. Gold: the right picture, in `gold_media`. A rule for edits that a program made; a real
    instruction has more than one right picture. That the lower one counts is EditScore's way (2509.23909).

    >>> from PIL import Image
    >>> from mmrl.core.media.pictures import as_media
    >>> source, right = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4))
    >>> right.paste("white", (0, 0, 2, 4))
    >>> pictures = {"media": [as_media(source)], "gold_media": [as_media(right)]}
    >>> [edit_match([Rollout("", made=[as_media(made)], **pictures)])[0].score for made in (source, right)]
    [0.0, 1.0]
    """
    if not rollout.gold_media or not rollout.media:
        return abstain("no right edit of a source picture to compare with")
    if not rollout.made:
        return unparsed("no picture was made")
    source, gold, made = map(pixels_of, (rollout.media[0], rollout.gold_media[0], rollout.made[-1]))
    if made.shape != gold.shape:
        return Verdict(0.0, f"made {_size(made)}, the right edit is {_size(gold)}")
    asked = asked_for(source, gold)
    if not asked.any():
        return abstain("the right edit is the source itself")
    gap = np.abs(made - gold).mean(axis=2)
    done, kept = (
        max(0.0, 1 - float(gap[where].mean()) / tolerance) if where.any() else 1.0 for where in (asked, ~asked)
    )
    return Verdict(min(done, kept), f"done {done:.2f}, kept {kept:.2f}")


def asked_for(source: Pixels, gold: Pixels) -> NDArray[np.bool_]:
    """[H, W]: where the right edit changes the source; everywhere if it has another size."""
    return np.ones(gold.shape[:2], bool) if source.shape != gold.shape else (source != gold).any(axis=2)


def pixels_of(media: Media) -> Pixels:
    """[H, W, 3] in [0, 1]."""
    return np.asarray(load_image(media), dtype=np.float64) / 255


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
