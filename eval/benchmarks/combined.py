"""Numbers over several benchmarks of one run: the mean of RefCOCO's eight splits, and the AMBER score."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from eval.benchmarks.base import Metrics
from eval.benchmarks.published.grounding import BENCHMARKS as GROUNDING
from mmrl.core.files import write_atomic

REPORT, COMBINED = "report.json", "combined.json"


def combined(parts: Mapping[str, Mapping[str, float | None] | None]) -> Metrics:
    """The numbers over several benchmarks; an incomplete set has none.

    >>> combined({"amber_generative": {"chair": 0.1}, "amber_discriminative": {"f1": 0.8}})
    {'amber_score': 85.0}
    """
    numbers: Metrics = {}
    splits = [(parts.get(task.name) or {}).get("accuracy") for task in GROUNDING]
    if all(split is not None for split in splits):
        numbers["refcoco_mean"] = fmean(split for split in splits if split is not None)
    chair = (parts.get("amber_generative") or {}).get("chair")
    f1 = (parts.get("amber_discriminative") or {}).get("f1")
    if chair is not None and f1 is not None:
        numbers["amber_score"] = (100 - 100 * chair + 100 * f1) / 2
    return numbers


def write_combined(out: Path, names: Iterable[str]) -> Metrics:
    """The combined numbers of the reports below `out`, also written there if there are any."""
    parts = {
        name: json.loads((out / name / REPORT).read_text(encoding="utf-8"))["metrics"]
        for name in names
        if (out / name / REPORT).is_file()
    }
    numbers = combined(parts)
    if numbers:
        write_atomic(out / COMBINED, json.dumps(numbers, indent=2) + "\n")
    return numbers
