"""The operator that keeps benchmarks out of training data."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data_engine.leaks import Evidence, LeakIndex
from data_engine.ops.base import Dropped, Existing, each
from data_engine.schema import Sample

SHOWN = 5  # leaks of one sample that are noted


@each
def decontaminate(
    sample: Sample,
    *,
    against: Annotated[list[Existing], Field(min_length=1)],
    by: Annotated[tuple[Evidence, ...], Field(min_length=1)] = ("source_id", "image", "both"),
    text: Annotated[float, Field(gt=0, le=1)] = 0.5,
    action: Literal["drop", "flag"] = "drop",
    root: Path = Path(),
) -> Sample | Dropped:
    """Drop samples that share pictures or questions with the benchmarks whose fingerprint files are in `against`.

    By `image`: a picture looks the same. By `text`: `text` of the word triples are the same. `both` is both with one
    sample of the benchmark; a match by both is also one by image and one by text. To flag is to write `meta["leaks"]`.
    """
    wanted = {*by, *({"both"} if {"image", "text"} & set(by) else ())}
    found = [one for one in _index(tuple(root / path for path in against)).leaks(sample, text=text) if one.by in wanted]
    if not found:
        return sample
    if action == "drop":
        return Dropped(sample, f"leak_of_{found[0].benchmark}_by_{found[0].by}")
    return replace(sample, meta={**sample.meta, "leaks": [asdict(one) for one in found[:SHOWN]]})


@functools.cache
def _index(paths: tuple[Path, ...]) -> LeakIndex:
    """Read once per process."""
    return LeakIndex(paths)
