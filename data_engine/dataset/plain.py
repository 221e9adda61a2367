"""Rows that were not built into a dataset: plain tables and `datasets`, checked as a build checks them."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_engine.operator import Dropped, Quarantined
from data_engine.ops.validate import validate
from data_engine.schema import Sample, with_id
from data_engine.sources.conversations import trl, trl_samples
from mmrl.core.config import InputError

logger = logging.getLogger(__name__)


def plain_samples(data: Any, task: str | None = None, split: str | None = None) -> list[Sample]:
    """The checked samples of a path (JSON lines, JSON, CSV, parquet, a saved dataset) or of a `datasets.Dataset`.

    Rows are read as by the source `trl`: `prompt`, `image` or `images`, `solution`. `task` is that of the rows that do
    not name theirs. Rows with a `split` are those of `split`. What `validate` does not keep is left out, with a warning
    that says why.
    """
    if isinstance(data, str | Path):
        return list(_of_path(Path(data).resolve(), _written(Path(data)), task, split))
    return _checked(trl_samples(data, task), "the dataset", split)


@functools.lru_cache(maxsize=2)  # the parts of a training ask for the same rows
def _of_path(place: Path, _: object, task: str | None, split: str | None) -> tuple[Sample, ...]:
    return tuple(_checked(trl(path=str(place), root=place.parent, task=task, split=split), str(place), split))


def _written(place: Path) -> tuple[int, ...]:
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    return tuple(file.stat().st_mtime_ns for file in files)


def _checked(items: Iterable[Sample | Quarantined], place: str, split: str | None) -> list[Sample]:
    samples, left_out, first = list[Sample](), Counter[str](), ""
    for item in items:
        outcome = validate(item) if isinstance(item, Sample) else item
        if isinstance(outcome, Sample):
            samples += [with_id(outcome)] if outcome.meta.get("split") in (None, split) or split is None else []
            continue
        left_out[outcome.reason] += 1
        why = outcome.reason if isinstance(outcome, Dropped) else outcome.why
        first = first or why
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        told = f"{left_out.total()} of {left_out.total() + len(samples)} rows of {place} are left out ({reasons})"
        if not samples:
            raise InputError(f"{told}; the first: {first:.300}")
        logger.warning("%s; the first: %.300s", told, first)
    return samples
