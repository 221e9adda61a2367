"""The block `flow:` of an evaluation: how a policy makes its pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from mmrl.core.config import Config
from mmrl.model.flow.pictures import FRAMES


class PictureSettings(Config):
    """`steps` from noise to a picture, each with `noise` of its own (0: the flow itself); `guidance` is an input of the
    network, or how its velocities with and without the text are mixed. A source of more than `pixels` pixels is made
    smaller, and its edit as large again. `side` is that of pictures of texts, in pixels, where the data show no right
    one, and `frames` counts those of a video. Of `films` samples, evenly spread, the steps of the first picture are
    kept, to be seen in mmrl view."""

    steps: PositiveInt = 28
    noise: NonNegativeFloat = 0.0
    guidance: Annotated[float, Field(ge=0)] = 3.5
    pixels: PositiveInt = 1024**2
    side: PositiveInt = 512
    frames: PositiveInt = FRAMES
    films: NonNegativeInt = 8
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def protocol(self, seed: int) -> dict[str, Any]:
        """The settings that decide a picture."""
        return {"decoding": "pictures", "seed": seed, **self.model_dump(mode="json", exclude={"films"})}
