"""Shared by all sources: errors of rows, and the checks of paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError, look_at
from rewards.tasks.keys import GoldError

Items = Iterator[Sample | Quarantined]


class RowError(Exception):
    """A row cannot become a sample; it holds a reason code, and a message that says what would be right."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def quarantined(error: RowError | GoldError | MediaError, source: str, where: str, row: Any) -> Quarantined:
    """The quarantine entry of a row that cannot become a sample."""
    return Quarantined(error.reason, f"{where}: {error}", source, where, row)


def existing(root: Path, path: str, kind: str) -> Path:
    """The file or folder of a source option; a wrong path is found before any work."""
    place = root / path
    look_at(place)
    if not place.exists():
        raise InputError(f"no {kind} at {place}; relative paths start at the recipe's root")
    return place


def existing_file(root: Path, path: str, kind: str) -> Path:
    """The file of a source option that does not take folders."""
    file = existing(root, path, kind)
    if file.is_dir():
        raise InputError(f"{file} is a folder; name the {kind} itself")
    return file
