"""Tables of rows for tests of sources, and how their rows end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import jsonl
from tests.support.faulty import form_fault

WIDTH, HEIGHT = 640, 427  # of the photographs that scikit-learn ships


def write(root: Path, name: str, rows: list[Any]) -> str:
    """The name of a new file: JSON lines if it ends so, else one array."""
    text = "\n".join(map(json.dumps, rows)) if name.endswith(".jsonl") else json.dumps(rows, indent=1)
    (root / name).write_text(text, encoding="utf-8")
    return name


def sound(items: Any) -> list[Sample]:
    """The items, all of them samples that break no rule."""
    samples = list(items)
    for sample in samples:
        assert isinstance(sample, Sample), sample
        assert form_fault(sample) is None
    return samples


def refused(items: Any) -> list[tuple[str, str]]:
    """(reason, where) of the items that are quarantined."""
    return [(item.reason, item.where) for item in items if isinstance(item, Quarantined)]


def write_lines(path: Path, rows: list[Any]) -> str:
    """Write JSON lines; a text is a line as it is. The name of the file."""
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path.name


def only_sample(items: Any) -> Sample:
    """The one item, a sample."""
    (sample,) = items
    assert isinstance(sample, Sample), sample
    return sample


def reasons(items: Any) -> list[str]:
    """The reason of each item that is quarantined, the task of the others."""
    return [item.reason if isinstance(item, Quarantined) else item.task for item in items]


def read_rows(root: Path, rows: list[Any], **form: Any) -> list[Sample | Quarantined]:
    """The samples that `jsonl` makes of the rows."""
    return list(jsonl(path=write_lines(root / "rows.jsonl", rows), root=root, rows=Rows(**form)))
