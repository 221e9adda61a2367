"""Conditions that a picture is made under, read back from the picture (ControlNet++, 2404.07987).

Shapes: N pictures of H x W pixels, C channels of a condition: 1, or 3 for one in colours.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.registry import resolve
from rewards.base import Rollout, Verdict, abstain, per_rollout, unparsed
from rewards.rules.edits import Pixels, pixels_of

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)
FLAT = 1e-6  # keeps the gradient of a root finite where a picture is flat
EXTRACTORS = {  # (pixels [N, 3, H, W] in [0, 1]) -> condition [N, C, H, W] in [0, 1]; these take arrays and tensors
    "edges": "rewards.rules.conditions:edges",
    "grey": "rewards.rules.conditions:grey",
}


def known(extractor: str) -> str:
    """The name of an extractor that is there; InputError for another."""
    resolve(extractor, EXTRACTORS, "extractor")
    return extractor


Extractor = Annotated[str, AfterValidator(known)]


@per_rollout
def condition_match(rollout: Rollout, *, extractor: Extractor = "edges") -> Verdict:
    """How near the condition read from a made picture is to the one it was made under (ControlNet++, 2404.07987).

        1 - mean (D(made) - condition)^2

    `extractor` D is `edges`, how strongly the grey values change; `grey`, the grey values; or a "module:function" of
    yours from pixels [N, 3, H, W] to a condition [N, C, H, W], tensors in [0, 1], C being 1 or 3. The condition is the
    source picture. Report with another extractor than the one that was trained on.

    >>> from PIL import Image
    >>> from mmrl.core.media.pictures import as_media
    >>> grey = as_media(Image.new("RGB", (4, 4), (51, 51, 51)))
    >>> [condition_match([Rollout("", media=[grey], made=[grey])], extractor="grey")[0].score]
    [1.0]
    """
    if not rollout.media:
        return abstain("no condition: the prompt shows no picture")
    if not rollout.made:
        return unparsed("no picture was made")
    made, condition = pixels_of(rollout.made[-1]), rollout.media[0]
    read = read_from(made, extractor)
    wanted = condition_of(condition, len(read))
    if read.shape != wanted.shape:
        sizes = [f"{shape[2]}x{shape[1]}" for shape in (read.shape, wanted.shape)]
        return Verdict(0.0, f"read {sizes[0]}, the condition is {sizes[1]}")
    error = float(np.square(read - wanted).mean())
    return Verdict(max(0.0, 1 - error), f"mean squared error {error:.4f}")


def read_from(pixels: Pixels, extractor: str) -> NDArray[Any]:
    """[C, H, W]: the condition that an extractor reads from pixels [H, W, 3]."""
    batch, function = pixels.transpose(2, 0, 1)[None], resolve(extractor, EXTRACTORS, "extractor")
    if extractor in EXTRACTORS:
        return function(batch)[0]
    import torch

    with torch.no_grad():
        return function(torch.from_numpy(batch).float())[0].numpy()


def condition_of(media: Media, channels: int) -> Pixels:
    """[C, H, W] in [0, 1]: a condition as a picture shows it, in grey if it has one channel."""
    if channels not in (1, 3):
        raise InputError(f"the extractor gives {channels} channels; a condition has 1, or 3 for one in colours")
    return (
        pixels_of(media).transpose(2, 0, 1) if channels == 3 else np.asarray(load_image(media).convert("L"))[None] / 255
    )


def grey(pixels: Any) -> Any:
    """[N, 1, H, W]: grey values."""
    red, green, blue = (pixels[:, place : place + 1] for place in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def edges(pixels: Any) -> Any:
    """[N, 1, H, W]: how far grey values change to the next pixel, to the right and below together, at most 1."""
    values = grey(pixels)
    height, width = values.shape[2:]
    below = values[:, :, [*range(1, height), height - 1]] - values
    right = values[:, :, :, [*range(1, width), width - 1]] - values
    return ((below**2 + right**2) / 2 + FLAT) ** 0.5
