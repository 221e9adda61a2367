"""VLMEvalKit tables: a TSV file with base64 images, a question, the options in columns A, B, ... and an answer."""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.rows import Row, Rows, samples_of
from mmrl.config import InputError

MAX_FIELD = 2**27  # characters of one field: an image of 96 MB
REFERENCE = 64  # an image text no longer than that is the index of another row, as VLMEvalKit reads it
LETTERS = "ABCDEFGHIJ"
NEEDED = ("index", "image", "question", "answer")


def vlmevalkit(*, path: str, root: Path, task: str = "choice", list_options: bool = True) -> Items:
    """The rows of a VLMEvalKit TSV file, as questions of one task.

    Option cells that are empty are left out, and the others are lettered anew: the answer follows its option. Rows that
    borrow the image of another row by its index are quarantined: the file is read as a stream.
    """
    file = existing(root, path, "TSV file")
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        header = lines.readline(4096).rstrip("\r\n").split("\t")
    if missing := [name for name in NEEDED if name not in header]:
        raise InputError(f"{file} has no column {', '.join(missing)}; its columns are {', '.join(header)}")
    return samples_of(_rows(file, path), Rows(task=task, list_options=list_options), file.parent, "vlmevalkit")


def _rows(file: Path, path: str) -> Iterator[Row]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t")
        while True:
            try:
                values = _next(reader)
            except csv.Error as error:  # a field over the limit, mostly by a quote that never closes
                yield Row(f"{path}:{reader.line_num}", {}, RowError("bad_row", f"no row of a TSV file: {error}"))
                continue
            if values is None:
                return
            yield _row(f"{path}:{reader.line_num}", values)


def _next(reader: csv.DictReader[str]) -> dict[Any, Any] | None:
    """The next row. The csv module has one limit for all of the process, 131,072: less than a photograph."""
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _row(where: str, values: Mapping[Any, Any]) -> Row:
    try:
        if None in values or None in values.values():
            raise RowError("bad_row", "the row has not as many fields as the header")
        options = {name: values[name] for name in LETTERS if values.get(name, "").strip()}
        meta = {name: values[name] for name in ("index", "category", "split", "hint") if values.get(name)}
        row = {"image": _image(values["image"]), "question": values["question"], "meta": meta}
        if not options:
            return Row(where, {**row, "answer": values["answer"]})
        return Row(where, {**row, "answer": _gold(values, options), "options": list(options.values())})
    except RowError as error:
        shown = {str(name): str(value)[:200] for name, value in values.items()}
        return Row(where, shown, error)


def _gold(values: Mapping[str, str], options: Mapping[str, str]) -> int | str:
    """The place of the option whose column the answer names, from 0; an answer that names no column, as it is."""
    answer = values["answer"].strip()
    if answer not in LETTERS or answer not in values:
        return answer
    if answer not in options:
        raise RowError("bad_answer", f"the answer is {answer} and that cell is empty; filled are {', '.join(options)}")
    return list(options).index(answer)


def _image(text: str) -> bytes:
    if len(text) <= REFERENCE:
        raise RowError("image_reference", f"image {text!r} is no picture but the index of another row; write it out")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("bad_image", f"the image is not base64: {error}") from None
