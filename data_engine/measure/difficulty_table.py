"""Difficulty files: the scores of a model's answers to each sample.

`mmrl data difficulty` writes them, the operator `difficulty` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.schema import Sample
from data_engine.seeding import digest
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.files import appearing

VERSION = b"1"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The scores of a model's draws for one sample under one reward.

    `key` identifies the question, whatever its source is called. Of the `draws`, `n` have a score, of which `right`
    are at or above `threshold`; `variance` is the unbiased one. `graded`: scores of the task are more than 0 and 1.
    `truncated` draws ran into the token limit. `chance` is how often a guess is right. `sampling` is JSON, `scorer` the
    hash of the rewards and `version` that of the code behind them. `split` is the one that the sample was in.
    """

    key: str
    id: str
    task: str
    source: str
    reward: str
    draws: int
    n: int
    right: int
    threshold: float
    mean: float | None
    variance: float | None
    graded: bool
    truncated: int
    chance: float
    model: str
    sampling: str
    protocol: str
    scorer: str
    version: str
    split: str = ""


ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "float | None": pa.float64()}
SCHEMA = pa.schema(
    [(field.name, ARROW[str(field.type)]) for field in fields(Difficulty)], metadata={"mmrl_difficulty": VERSION}
)


def key_of(sample: Sample) -> str:
    """The key under which a sample is looked up."""
    media = [{"kind": m.kind, "sha256": m.sha256, "start": m.start, "end": m.end} for m in sample.media]
    return asked_key(sample.task, sample.prompt, sample.answer, media)


def asked_key(task: str, prompt: Sequence[Any], answer: Mapping[str, Any], media: Sequence[Mapping[str, Any]]) -> str:
    """A hash of task, prompt, answer and media."""
    cuts = [[item["kind"], item["sha256"], item["start"], item["end"]] for item in media]
    return digest(dumps([task, prompt, answer, cuts]))


def write_difficulty(rows: Iterable[Difficulty], path: Path) -> int:
    """Write a difficulty file, sorted by key; returns its number of samples."""
    ordered = sorted(rows, key=lambda row: row.key)
    table = pa.Table.from_pylist([asdict(row) for row in ordered], schema=SCHEMA)
    with appearing(path) as staging:
        pq.write_table(table, staging, compression="zstd")
    return len(ordered)


def read_difficulty(path: Path) -> dict[str, Difficulty]:
    """The rows of a difficulty file by key."""
    check_difficulty(path)
    return {row["key"]: Difficulty(**row) for row in pq.read_table(path).to_pylist()}


def check_difficulty(path: Path) -> None:
    """Raise InputError if the file is not a difficulty file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as a difficulty file ({error}); {_HINT}") from None
    if metadata.get(b"mmrl_difficulty") != VERSION:
        raise InputError(f"{path} is not a difficulty file of version {VERSION.decode()}; {_HINT}")


_HINT = "write it with mmrl data difficulty"
