"""Rows of CSV and TSV files, with cells as large as photographs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data_engine.sources.base import RowError
from data_engine.sources.row_format import Row, Rows
from mmrl.core.config import InputError

MAX_FIELD = 2**27  # characters of one field: an image of 96 MB
SEPARATORS = ",;\t|"
NUMBERS = ("start", "end")  # our columns that are numbers; all others are read from texts, too


def header(content: BinaryIO, delimiter: str | None = None) -> tuple[list[str], str]:
    """(the names of the columns, the delimiter) of a file that was just opened: by default what separates its names."""
    line = content.readline(2**16).decode("utf-8-sig", "surrogateescape").rstrip("\r\n")
    between = delimiter or max(SEPARATORS, key=line.count)
    if len(between) != 1:
        raise InputError(f"delimiter {delimiter!r} is not one character, such as , or a tab")
    return next(csv.reader([line], delimiter=between), []), between


def delimited_rows(file: Path, path: str, names: list[str], delimiter: str, form: Rows) -> Iterator[Row]:
    """The rows of a file below its header; empty cells are absent."""
    numbers = {column for name in NUMBERS for column in form.named(name)}
    with file.open("rb") as content:
        header(content, delimiter)
        reader = csv.DictReader(lines(content), names, delimiter=delimiter)
        while True:
            try:
                values = next_row(reader)
            except csv.Error as error:  # a field over the limit, mostly by a quote that never closes
                why = f"this is not a row of a CSV file: {error}"
                yield Row(f"{path}:{reader.line_num + 1}", {}, RowError("bad_row", why))
                continue
            if values is None:
                return
            where = f"{path}:{reader.line_num + 1}"
            if None in values or None in values.values():
                why = f"the row has another number of cells than the {len(names)} names of the first line"
                yield Row(
                    where, {str(name): str(cell)[:200] for name, cell in values.items()}, RowError("bad_row", why)
                )
            else:
                yield Row(where, {name: _cell(name, cell, numbers) for name, cell in values.items() if cell.strip()})


def lines(content: BinaryIO) -> Iterator[str]:
    """The lines from the position of the file; unlike those of a text file, they keep `tell` right in between."""
    return (line.decode("utf-8", "surrogateescape") for line in iter(lambda: content.readline(2 * MAX_FIELD), b""))


def next_row(reader: csv.DictReader[str]) -> dict[Any, Any] | None:
    """The next row. The csv module has one limit per process, 131,072 characters, less than a photograph."""
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _cell(name: str, cell: str, numbers: set[str]) -> Any:
    if name not in numbers:
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell  # whoever reads it says what is wrong
