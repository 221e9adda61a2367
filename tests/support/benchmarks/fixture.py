"""A benchmark as the tests know it: rows in its layout, and its best and worst numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Fixture:
    """Rows of a benchmark as a file with this `suffix` ("dir": files by name), and the paths of `edits` of them.

    Names of numbers, or the first or last part of them: `lower` are best at 0, `free` have no best value, `empty` are
    None on these rows, `silent` are not 0 for a model that says nothing. The others are `best`, or `best_of` by name,
    for a model that is right everywhere.
    """

    rows: Any
    suffix: str = "parquet"
    best: float = 1.0
    best_of: Mapping[str, float] = field(default_factory=dict)
    lower: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    edits: tuple[str, ...] = ()


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def png(shade: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of one colour as PNG bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 100, 100)).save(file, "PNG")
    return file.getvalue()


def cell(shade: int = 0) -> dict[str, Any]:
    """A picture as the hub's parquet files hold it."""
    return {"bytes": png(shade), "path": f"{shade}.png"}
