"""Rows of JSON files, read one at a time: JSON lines, and one array that is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from data_engine.sources.base import RowError
from data_engine.sources.row_format import Row
from mmrl.core.config import InputError

MAX_DEPTH = 32  # of nested JSON: whoever handles it later may recurse
MAX_ENTRY = 2**26  # characters of one entry of an array, bytes of one line
CHUNK = 2**16  # characters read at once

_GAP = re.compile(r"[\s,]*")


def json_lines(file: Path, path: str) -> Iterator[Row]:
    """The rows of a JSON-lines file without its blank lines."""
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_ENTRY), b""), start=1):
            if len(line) == MAX_ENTRY and not line.endswith(b"\n"):
                while (rest := lines.readline(MAX_ENTRY)) and not rest.endswith(b"\n"):
                    pass
                error = RowError("bad_json", f"not usable JSON: the line is longer than {MAX_ENTRY} bytes")
                yield Row(f"{path}:{number}", line[:1000].decode(errors="replace"), error)
            elif line.strip():
                yield _line(f"{path}:{number}", line)


def json_entries(file: Path, path: str, at: str | None = None) -> Iterator[Row]:
    """The entries of a file that is one JSON array, with the line at which each begins.

    An entry that is not JSON is the last one, because the rest cannot be parsed; an entry with NaN loses only itself.
    A file that is one object is read as a whole: its rows are under the key `at` (`data`, `data.train`), a list or an
    object of rows by id; without `at` the object itself is one of rows by id. A row by id has its key as `id`.
    """
    with file.open(encoding="utf-8", errors="surrogateescape") as text:
        if at is None and not _is_object(text):
            yield from _entries(text, path)
            return
        content = text.read().lstrip("\ufeff")
    try:
        found = _at(json.loads(content, parse_constant=_Constant), at, path)
    except (RecursionError, json.JSONDecodeError, RowError) as error:
        why = f"it is nested deeper than {MAX_DEPTH} levels" if isinstance(error, RecursionError) else error
        yield Row(f"{path}:1", content[:1000], RowError("bad_json", f"not usable JSON: {why}"))
        return
    for name, values in found:
        try:
            yield Row(f"{path}: {name}", _flat(_finite(values)))
        except ValueError as error:
            why = f"not usable JSON: {error}"
            yield Row(f"{path}: {name}", f"{values!r:.1000}", RowError("bad_json", why))


def json_table(file: Path, path: str) -> Iterator[Row]:
    """The rows of a file of JSON lines (`.jsonl`) or of one array (any other name)."""
    return json_lines(file, path) if file.suffix in (".jsonl", ".ndjson") else json_entries(file, path)


def plain_json(text: str | bytes) -> Any:
    """The value of a JSON text without NaN, without a key that stands twice and without deep nesting; a ValueError
    names the fault."""
    try:
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
        return _flat(value)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None


class _Constant(str):
    """NaN or its like in a file."""


def _finite(value: Any) -> Any:
    """The value; a ValueError if it holds NaN or its like."""
    if isinstance(value, _Constant):
        _no_number(value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(inner)
    return value


def _is_object(text: TextIO) -> bool:
    """Whether a file is one object; its position is at the start again."""
    head = next((piece for piece in iter(lambda: text.read(CHUNK), "") if piece.strip("\ufeff \t\r\n")), "")
    text.seek(0)
    return head.lstrip("\ufeff \t\r\n").startswith("{")


def _at(data: Any, at: str | None, path: str) -> Iterator[tuple[str, Any]]:
    """(name, row) of the rows below a key, or of an object of rows by id."""
    for key in at.split(".") if at else ():
        if not isinstance(data, dict) or key not in data:
            raise InputError(f"{path} has nothing at {at}; {_lists_in(data)}")
        data = data[key]
    if isinstance(data, list):
        return ((f"{at}[{number}]" if at else str(number), row) for number, row in enumerate(data))
    if isinstance(data, dict) and data and all(isinstance(row, dict) for row in data.values()):
        return ((str(key), row if "id" in row else {"id": key, **row}) for key, row in data.items())
    right = "rows are one array, JSON lines in a file called .jsonl, or a list below the key that rows.at names"
    if at:
        raise InputError(f"{path} has no rows at {at}: {right}; {_lists_in(data)}")
    raise RowError("bad_json", f"the file is one object: {right}; {_lists_in(data)}")


def _lists_in(data: Any) -> str:
    """The keys below which there are rows, in words."""
    names = (
        [repr(key) for key, value in data.items() if isinstance(value, list | dict)] if isinstance(data, dict) else []
    )
    return f"lists are under {', '.join(names)[:200]}" if names else "there is no list in it"


def _line(where: str, line: bytes) -> Row:
    try:
        return Row(where, plain_json(line))
    except ValueError as error:  # not UTF-8, not JSON
        return Row(where, line[:1000].decode(errors="replace"), RowError("bad_json", f"not usable JSON: {error}"))


def _entries(text: TextIO, path: str) -> Iterator[Row]:
    faults: list[ValueError] = []  # of the entry that was read last: NaN and its like, keys that stand twice
    decoder = json.JSONDecoder(
        parse_constant=_noting(_no_number, faults), object_pairs_hook=_noting(_once, faults, otherwise=dict)
    )
    held, line, ended = "", 1, False

    def broken(why: str, at: int = 0) -> Row:
        return Row(f"{path}:{line}", held[at : at + 1000], RowError("bad_json", f"not usable JSON: {why}"))

    while not held.strip() and not ended:
        held, ended = _more(held, text)
    at = len(held) - len(held.lstrip("\ufeff \t\r\n"))
    line += held.count("\n", 0, at)
    if not held.startswith("[", at):
        yield broken("the file must be one array, [...]; JSON lines go into a file called .jsonl")
        return
    at += 1
    while True:
        start = at + len(_gap(held, at))
        line, at = line + held.count("\n", at, start), start
        if held.startswith("]", at):
            lines, held = _behind(held[at + 1 :], text)
            line += lines
            if held:
                why = "after the ] of the array there is more, and it is unread; a file is one array, or JSON lines"
                yield broken(f"{why} in a file called .jsonl")
            return
        faults.clear()
        try:
            value, end = decoder.raw_decode(held, at) if at < len(held) else (None, at)
            done, why = (
                end < len(held),
                "the array is not closed by ]",
            )  # an entry that ends here may continue: 12 of 123
        except (ValueError, RecursionError) as error:
            value, end, done, why = None, at, False, str(error)
        if done:
            try:
                if faults:
                    raise faults[0]
                yield Row(f"{path}:{line}", _flat(value))
            except ValueError as error:
                yield broken(str(error), at)
            line, at = line + held.count("\n", at, end), end
        elif ended or len(held) - at > MAX_ENTRY:
            why = why if ended else f"an entry is longer than {MAX_ENTRY} characters, or broken: {why}"
            yield broken(f"{why}; the rest of the file is unread", at)
            return
        else:
            (held, ended), at = _more(held[at:], text), 0


def _behind(held: str, text: TextIO) -> tuple[int, str]:
    """(lines that end in it, what follows) of the blanks at the start of a text; what follows may be incomplete."""
    lines, ended = 0, False
    while not (rest := held.lstrip()) and not ended:
        lines += held.count("\n")
        held, ended = _more("", text)
    return lines + held.count("\n", 0, len(held) - len(rest)), rest


def _gap(held: str, at: int) -> str:
    """The blanks and commas that follow."""
    match = _GAP.match(held, at)
    return match.group() if match else ""


def _more(held: str, text: TextIO) -> tuple[str, bool]:
    """The text with as much again from the file, so that a long entry is not read repeatedly; and whether the file
    ended."""
    read = text.read(max(CHUNK, len(held)))
    return held + read, not read


def _flat(value: Any) -> Any:
    if _is_deeper(value, MAX_DEPTH):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in inner)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys; json would silently keep the last of two that are the same."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r:.80} stands there twice")
    return made


def _noting(read: Callable[[Any], Any], faults: list[ValueError], otherwise: Callable[[Any], Any] = str) -> Any:
    """`read`, whose error is noted: raised, it would end the parsing of all that follows."""

    def noting(given: Any) -> Any:
        try:
            return read(given)
        except ValueError as error:
            faults.append(error)
            return otherwise(given)

    return noting


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
