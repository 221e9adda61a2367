"""The operator that keeps benchmarks out of training data."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data_engine.operator import Dropped, Existing, each
from data_engine.schema import Sample
from data_engine.similar.index import Evidence, LeakIndex

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

    `by` lists the evidence that counts. `source_id`: the same picture of the same public dataset. `image`: a picture
    looks the same. `text`: the share `text` of the word triples is the same. `both`: image and text match one and the
    same sample of the benchmark. `action: flag` keeps the sample and writes `meta["leaks"]` instead.
    """
    index = _index(tuple(_as_it_is(root / path) for path in against))
    leaks = index.leaks(sample, text=text, by=by)
    if not leaks:
        return sample
    if action == "drop":
        return Dropped(sample, f"leak_of_{leaks[0].benchmark}_by_{leaks[0].by}")
    return replace(sample, meta={**sample.meta, "leaks": [asdict(leak) for leak in leaks[:SHOWN]]})


def _as_it_is(path: Path) -> tuple[Path, int, int]:
    """A file by its path, size and time, so that a file that was written again counts as another one."""
    if not path.is_file():
        return path, 0, 0  # to read it says what is wrong
    state = path.stat()
    return path, state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _index(files: tuple[tuple[Path, int, int], ...]) -> LeakIndex:
    """The index of the files; it is read once per process."""
    return LeakIndex([path for path, *_ in files])
