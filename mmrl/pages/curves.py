"""The curves of a training run, from the `metrics.jsonl` in its output."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from mmrl.core.html import Html, element, joined, line_chart

FIRST = {"reward": "weighted sum of the rewards", "eval_reward": "weighted sum, held out"}
LAST = {
    "completions/mean_length": "tokens of a completion",
    "loss": "loss",
    "entropy": "entropy of a token",
    "grad_norm": "norm of the gradient",
}


def charts(training: Path) -> Html:
    """A chart for the weighted sum, on training and held-out prompts, each reward, the length of completions, the loss,
    the entropy and the gradient, as far as they were logged; a sentence if nothing was."""
    points = logged(training / "metrics.jsonl")
    if not points:
        return element("p", f"{training} holds no metrics.jsonl with numbers of steps.", class_="dim")
    window = max(len(next(iter(points.values()))) // 10, 5)
    drawn = [
        line_chart(points[key], title=title, window=window, top=0.0 if key in LAST else 1.0)
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
    return {key: values for key, values in points.items() if key in FIRST | LAST or _reward(key)}


def _titles(points: dict[str, list[tuple[float, float]]]) -> dict[str, str]:
    """The title of each chart in the order of the page: the sums, the rewards by name, the rest."""
    keys = [*FIRST, *sorted(key for key in points if _reward(key)), *LAST]
    return {key: (FIRST | LAST).get(key) or str(_reward(key)) for key in keys if key in points}


def _reward(key: str) -> str | None:
    """The reward whose mean a metric is.

    >>> _reward("rewards/format/mean"), _reward("rewards/format/std")
    ('format', None)
    """
    match = re.fullmatch("rewards/(.+)/mean", key)
    return match[1] if match else None
