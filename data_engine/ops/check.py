"""The simplest operators: is this sample wanted?"""

from __future__ import annotations

from pydantic import PositiveInt

from data_engine.operator import Task, drops
from data_engine.schema import Sample


@drops
def min_pixels(sample: Sample, *, pixels: PositiveInt = 28 * 28) -> str | None:
    """Drop samples with an image or video smaller than `pixels`."""
    too_small = any((media.width or 0) * (media.height or 0) < pixels for media in sample.media)
    return "too_small" if too_small else None


@drops
def only_tasks(sample: Sample, *, tasks: list[Task]) -> str | None:
    """Drop samples of any task that is not in `tasks`."""
    return None if sample.task in tasks else f"task_{sample.task}"
