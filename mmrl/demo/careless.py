"""Labels as hurried annotators give them: boxes drawn loosely, times rounded outwards, things overlooked or confused.

The demo's policy ends its warm-up on such labels, as many models do. The rewards of reinforcement learning are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from data_engine.operator import each
from data_engine.schema import Sample
from data_engine.seeding import fraction, letter

Draw = Callable[[object], float]  # a name -> a number in [0, 1), always the same for a name and a sample

OVERLOOKED = 0.35  # of the digits on a picture
CONFUSED = 0.45  # of the pairs of digits in a clip: the second is taken for the first
WRONG = 0.4  # of the answers that name a letter, or yes and no
MARGIN = (0.1, 0.5)  # added on each side of a box, in its own widths or heights
LATENESS = 2.0  # the largest number of seconds by which a span begins too early or ends too late


@each
def careless(sample: Sample, *, seed: int = 0) -> Sample:
    """The sample with a careless label, drawn from its content: of the tasks of the demo."""

    def draw(name: object) -> float:
        return fraction("careless", seed, sample.id, name)

    answer, changes = LABELS[sample.task](sample, draw)
    return replace(sample, answer={**sample.answer, **answer}, meta={**sample.meta, "careless": True, **changes})


def _loose(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """Boxes with a margin of its own on each side."""
    low, high = MARGIN
    size = (sample.media[0].width or 1, sample.media[0].height or 1) * 2
    boxes = []
    for x1, y1, x2, y2 in sample.answer["boxes"]:
        outward = (x1 - x2, y1 - y2, x2 - x1, y2 - y1)
        moved = (low + (high - low) * draw(side) for side in range(4))
        sides = zip((x1, y1, x2, y2), outward, moved, size, strict=True)
        boxes.append([min(max(at + way * share, 0.0), float(end)) for at, way, share, end in sides])
    return {"boxes": boxes}, {}


def _long(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """Spans that begin too early and end too late, at half-second marks within the video."""
    end_of_video = sample.media[0].duration or float("inf")
    early, late = (round(2 * LATENESS * draw(end)) / 2 for end in ("start", "end"))
    spans = [[max(start - early, 0.0), min(end + late, end_of_video)] for start, end in sample.answer["spans"]]
    return {"spans": spans}, {}


def _overlooked(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """The number of the digits that were noticed, one at least."""
    digits = sample.meta["rationale"].split()
    noticed = [digit for digit in digits if draw(digit) >= OVERLOOKED] or digits[:1]
    return {"number": float(len(noticed))}, {"rationale": " ".join(noticed)}


def _confused(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """The digit that came second, where the two were confused."""
    first, second = sample.meta["rationale"].split(" then ")
    if draw("order") >= CONFUSED:
        return {}, {}
    return {"number": float(second)}, {"rationale": f"{second} then {first}"}


def _mistaken(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """The other of yes and no, where nobody looked."""
    return {"yesno": sample.answer["yesno"] != (draw("yesno") < WRONG)}, {}


def _slipped(sample: Sample, draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    """The letter of another option, where the line slipped."""
    options, right = sample.answer["options"], sample.answer["choice"]
    others = [letter(place) for place in range(len(options)) if letter(place) != right]
    return ({"choice": others[int(draw("other") * len(others))]} if draw("choice") < WRONG else {}), {}


LABELS = {
    "grounding": _loose,
    "temporal": _long,
    "count": _overlooked,
    "number": _confused,
    "yesno": _mistaken,
    "choice": _slipped,
}
