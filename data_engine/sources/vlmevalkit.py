"""VLMEvalKit tables: a TSV file with base64 images, a question, the options in columns A, B, ... and an answer."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from data_engine.sources.base import Items, RowError, existing_file
from data_engine.sources.row_format import Row, Rows, samples_of
from mmrl.core.config import InputError

MAX_FIELD = 2**27  # characters of one field: an image of 96 MB
REFERENCE = 64  # characters: a shorter image text is the index of another row, as VLMEvalKit reads it
LETTERS = "ABCDEFGHIJ"
NEEDED = ("index", "image", "question", "answer")


def vlmevalkit(*, path: str, root: Path, task: str = "choice", list_options: bool = True) -> Items:
    """The rows of a VLMEvalKit TSV file, as questions of one task.

    Empty option cells are left out and the others get new letters; the answer follows its option. An image cell holds a
    picture, a list of pictures, or the index of an earlier row with the same picture. A `hint` is put on a line before
    the question. With `list_options` the options are added to the question.
    """
    file = existing_file(root, path, "TSV file")
    with file.open("rb") as content:
        header = _header(content)
    if missing := [name for name in NEEDED if name not in header]:
        raise InputError(f"{file} has no column {', '.join(missing)}; its columns are {', '.join(header)}")
    return samples_of(_rows(file, path), Rows(task=task, list_options=list_options), file.parent, "vlmevalkit")


def _rows(file: Path, path: str) -> Iterator[Row]:
    with file.open("rb") as content, file.open("rb") as again:
        header, owners = _header(content), dict[str, int]()  # index -> where the row with that picture starts

        def borrowed(index: str) -> str:
            again.seek(owners[index])
            return (_next(csv.DictReader(_lines(again), header, delimiter="\t")) or {})["image"]

        reader, lines_before = csv.DictReader(_lines(content), header, delimiter="\t"), 1
        while True:
            start = content.tell()
            try:
                values = _next(reader)
            except csv.Error as error:  # a field over the limit, mostly by a quote that never closes
                where = f"{path}:{reader.line_num + lines_before}"
                yield Row(where, {}, RowError("bad_row", f"this is not a row of a TSV file: {error}"))
                continue
            if values is None:
                return
            if len(values.get("image") or "") > REFERENCE:
                owners.setdefault(values.get("index") or "", start)
            elif values.get("image") in owners:
                values["image"] = borrowed(values["image"])
            yield _row(f"{path}:{reader.line_num + lines_before}", values)


def _header(content: BinaryIO) -> list[str]:
    return content.readline(4096).decode("utf-8-sig", "surrogateescape").rstrip("\r\n").split("\t")


def _lines(content: BinaryIO) -> Iterator[str]:
    """The lines from the position of the file; unlike those of a text file, they keep `tell` right in between."""
    return (line.decode("utf-8", "surrogateescape") for line in iter(lambda: content.readline(2 * MAX_FIELD), b""))


def _next(reader: csv.DictReader[str]) -> dict[Any, Any] | None:
    """The next row. The csv module has one limit per process, 131,072 characters, less than a photograph."""
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _row(where: str, values: Mapping[Any, Any]) -> Row:
    try:
        if None in values or None in values.values():
            raise RowError("bad_row", "the row has another number of fields than the header")
        options = {name: values[name] for name in LETTERS if values.get(name, "").strip()}
        meta = {name: values[name] for name in ("index", "category", "split", "hint") if values.get(name)}
        question, hint = values["question"], values.get("hint", "").strip()
        if hint.lower() not in ("", "nan") and question.strip():
            question = f"{hint}\n{question}"
        row = {"images": _images(values["image"]), "question": question, "meta": meta}
        if not options:
            return Row(where, {**row, "answer": values["answer"]})
        return Row(where, {**row, "answer": _gold(values, options), "options": list(options.values())})
    except RowError as error:
        short = {str(name): str(value)[:200] for name, value in values.items()}
        return Row(where, short, error)


def _gold(values: Mapping[str, str], options: Mapping[str, str]) -> int | str:
    """The place, from 0, of the option whose column the answer names; an answer that names no column, unchanged."""
    answer = values["answer"].strip()
    if answer not in LETTERS or answer not in values:
        return answer
    if answer not in options:
        raise RowError("bad_answer", f"the answer is {answer} and that cell is empty; filled are {', '.join(options)}")
    return list(options).index(answer)


def _images(text: str) -> list[bytes]:
    """The pictures of a cell: base64, or a list of it as Python writes it."""
    if text.startswith("["):
        try:
            parts = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise RowError("bad_image", f"the image is not a list of base64: {error}") from None
    elif len(text) <= REFERENCE:
        raise RowError("image_reference", f"image {text!r} is not a picture, nor the index of an earlier row with one")
    else:
        parts = [text]
    try:
        return [base64.b64decode(part, validate=True) for part in parts]
    except (binascii.Error, ValueError, TypeError) as error:
        raise RowError("bad_image", f"the image is not base64: {error}") from None
