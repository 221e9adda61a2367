"""What a command says when it ends with an error: one line, whatever was raised."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator

from mmrl.core.config import InputError, RunError
from mmrl.core.files import FULL
from mmrl.core.text import one_line

WRONG, FAILED = 2, 1  # exit status: what was typed is wrong, a run cannot continue
_DENIED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EEXIST,
}
_SPELLED = re.compile(r"\bcode: (\d+), kind:")  # the number of an error of the system, as libraries in Rust write it


@contextlib.contextmanager
def reported(program: str) -> Iterator[None]:
    """A block whose errors end the process with one line on standard error."""
    try:
        yield
    except Exception as error:
        line, status = failure(program, error)
        print(line, file=sys.stderr)
        sys.exit(status)


def failure(program: str, error: Exception) -> tuple[str, int]:
    """(the line for the terminal, the exit status) of a command that ended with `error`.

    The traceback of an error that nobody foresaw goes to a file of its own, which the line names.
    """
    text, status = _explained(error)
    return one_line(f"{program}: {text}"), status


def _explained(error: Exception) -> tuple[str, int]:
    if isinstance(error, InputError | RunError):
        return str(error), WRONG if isinstance(error, InputError) else FAILED
    code = _code(error)
    place = getattr(error, "filename", None)
    if code in FULL:
        what = f" for {place}" if place else ""
        return f"no room{what} ({os.strerror(code)}); make room and run it again: what was written is whole", FAILED
    if code in _DENIED and place is not None:
        return f"{place}: {os.strerror(code)}; name another place", WRONG
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({error}); take smaller batches, or fewer processes{_kept(error)}", FAILED
    return f"{type(error).__name__}: {error}{_kept(error)}", FAILED


def _code(error: Exception) -> int | None:
    """The number of an error of the system, also where a library gives it in words."""
    if isinstance(error, OSError):
        return error.errno
    spelled = _SPELLED.search(str(error))
    return int(spelled[1]) if spelled else None


def _kept(error: Exception) -> str:
    """Where the traceback is, for a report; nothing where it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mmrl-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f"; the traceback is in {file.name}"
