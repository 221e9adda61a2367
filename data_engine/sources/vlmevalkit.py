"""VLMEvalKit tables: a TSV file with base64 images, a question, the options in columns A, B, ... and an answer."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.seeding import letter
from data_engine.sources.base import Items, RowError, existing_file
from data_engine.sources.delimited import header, lines, next_row
from data_engine.sources.row_format import Row, Rows, own_licence, samples_of
from data_engine.sources.row_media import NAMES
from mmrl.core.config import InputError

REFERENCE = 64  # characters: a shorter image text is the index of another row, as VLMEvalKit reads it
LETTERS = "ABCDEFGHIJ"
NEEDED = ("index", "image", "question", "answer")
KEPT = ("index", "category", "split", "hint")


def vlmevalkit(*, path: str, root: Path, task: str = "choice", list_options: bool = True) -> Items:
    """The rows of a VLMEvalKit TSV file, as questions of one task.

    Empty option cells are left out and the others get new letters; the answer follows its option. An image cell holds a
    picture, a list of pictures, or the index of an earlier row with the same picture. A `hint` is put on a line before
    the question. With `list_options` the options are added to the question.
    """
    file = existing_file(root, path, "TSV file")
    with file.open("rb") as content:
        names, _ = header(content, "\t")
    if missing := [name for name in NEEDED if name not in names]:
        raise InputError(f"{file} has no column {', '.join(missing)}; its columns are {', '.join(names)}")
    return samples_of(_rows(file, path), Rows(task=task, list_options=list_options), file.parent, "vlmevalkit")


def _rows(file: Path, path: str) -> Iterator[Row]:
    with file.open("rb") as content, file.open("rb") as again:
        (names, _), owners = header(content, "\t"), dict[str, int]()  # index -> where the row with that picture starts

        def borrowed(index: str) -> str:
            again.seek(owners[index])
            return (next_row(csv.DictReader(lines(again), names, delimiter="\t")) or {})["image"]

        reader, lines_before = csv.DictReader(lines(content), names, delimiter="\t"), 1
        while True:
            start = content.tell()
            try:
                values = next_row(reader)
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


def _row(where: str, values: Mapping[Any, Any]) -> Row:
    try:
        if None in values or None in values.values():
            raise RowError("bad_row", "the row has another number of fields than the header")
        options = {name: values[name] for name in LETTERS if not _is_empty(values.get(name, ""))}
        meta = {name: values[name] for name in KEPT if values.get(name)}
        question, hint = values["question"], values.get("hint", "").strip()
        if not _is_empty(hint) and question.strip():
            question = f"{hint}\n{question}"
        names = [name for name in (values.get("image_path"), values.get("file_name")) if name]
        row = {
            "licence": own_licence(values),
            "images": _images(values["image"]),
            "question": question,
            "meta": meta | ({NAMES: names} if names else {}),
        }
        if not options:
            return Row(where, {**row, "answer": values["answer"]})
        return Row(where, {**row, "answer": _gold(values, options), "options": list(options.values())})
    except RowError as error:
        short = {str(name): str(value)[:200] for name, value in values.items()}
        return Row(where, short, error)


def _gold(values: Mapping[str, str], options: Mapping[str, str]) -> Any:
    """The letter of the option whose column the answer names; an answer that names no column, unchanged."""
    stated = values["answer"].strip()
    answer = stated.strip("().: ").upper()
    if len(answer) != 1 or answer not in LETTERS or answer not in values:
        return stated
    if answer not in options:
        raise RowError("bad_answer", f"the answer is {answer} and that cell is empty; filled are {', '.join(options)}")
    return {"choice": letter(list(options).index(answer))}


def _is_empty(cell: str) -> bool:
    """Whether a cell says nothing; pandas writes empty ones as nan."""
    return cell.strip().lower() in ("", "nan", "<na>")


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
