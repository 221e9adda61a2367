"""The curves of a training run, from the `metrics.jsonl` in its output."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from mmrl.core.html import Html, element, joined, line_chart

NAMES = {"reward": "weighted sum of the rewards", "completions/mean_length": "tokens of a completion"}


def charts(training: Path) -> Html:
    """A chart for the weighted sum, each reward and the length of completions; a sentence if nothing was logged."""
    points = logged(training / "metrics.jsonl")
    if not points:
        return element("p", f"{training} holds no metrics.jsonl with rewards.", class_="dim")
    window = max(len(next(iter(points.values()))) // 10, 5)
    drawn = [
        line_chart(points[key], title=title, window=window, top=0.0 if key == "completions/mean_length" else 1.0)
        for key, title in _titles(points).items()
    ]
    about = f"Dots are training steps, lines the mean of the last {window}."
    return joined(element("p", about, class_="dim"), element("div", *drawn, class_="charts"))


def logged(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) points of every number in a metrics file; null and an incomplete last line are skipped."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    lines = metrics.read_text(encoding="utf-8").split("\n")[:-1] if metrics.is_file() else []
    for line in map(json.loads, lines):
        for key, value in line.items():
            if isinstance(value, int | float):
                points[key].append((line["step"], value))
    return {key: values for key, values in points.items() if key in NAMES or _reward(key)}


def _titles(points: dict[str, list[tuple[float, float]]]) -> dict[str, str]:
    """The title of each chart in the order of the page: the sum, the rewards by name, the length."""
    first, last = NAMES
    keys = [first, *sorted(key for key in points if _reward(key)), last]
    return {key: NAMES.get(key) or str(_reward(key)) for key in keys if key in points}


def _reward(key: str) -> str | None:
    """The reward whose mean a metric is.

    >>> _reward("rewards/format/mean"), _reward("rewards/format/std")
    ('format', None)
    """
    match = re.fullmatch("rewards/(.+)/mean", key)
    return match[1] if match else None
