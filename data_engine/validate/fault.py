"""The result of a check, and the limits that all checks obey."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from data_engine.schema import Sample
from mmrl.core.config import Config


class Fault(NamedTuple):
    """A message (the fault and the right form), and the fixed sample, if it can be fixed without a guess."""

    message: str
    fixed: Sample | None = None


class Limits(Config):
    """The bounds from which checks find fault."""

    seconds: PositiveFloat = 60.0  # of the processor to decode a file, and ten more for each megabyte of it
    min_side: PositiveInt = 28
    max_aspect: PositiveFloat = 200.0
    over_edge: NonNegativeFloat = 1.0  # pixels by which a box or point may reach over the edge: annotations are rounded
    min_box_share: NonNegativeFloat = 0.0  # of the picture's area
    max_box_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    over_end: NonNegativeFloat = 0.5  # seconds by which a span may end after the video
