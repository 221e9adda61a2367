"""The consistency loss of ControlNet++ (2404.07987): flow matching, and rewards of the clean pictures it points at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from mmrl.core.config import Config


class Consistency(Config):
    """Learns from the right pictures of the data and makes none. `times`: noised copies of each in a step. The rewards
    count with `weight` at times of at most `latest`, the paper's 200 of 1,000 steps; later ones are too blurred."""

    times: PositiveInt = 1
    latest: Annotated[float, Field(gt=0, le=1)] = 0.2
    weight: PositiveFloat = 0.5
