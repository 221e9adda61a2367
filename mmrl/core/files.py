"""Files and folders: written whole or not at all, hashed, and checked before long work that ends with one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmrl.core.config import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RENAME_EXCHANGE = 2  # of Linux' renameat2
AT_FDCWD = -100


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file (text as UTF-8) whole or not at all; see `appearing`."""
    with appearing(path, durable=durable) as staging:
        staging.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def appearing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write a file or folder at, which appears at `path` all at once when the block ends without an error.

    Until then, and after an error, `path` is as it was. Several threads, processes and machines may write the same
    path: the last one wins. A `durable` file is on disk before it appears, so a power cut leaves the old or the new
    one; caches do without, which is faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _staging(path)
    try:
        yield staging
        if staging.is_dir():
            put_in_place(staging, path)
            return
        if durable:
            with staging.open("rb") as written:
                os.fsync(written.fileno())
        staging.replace(path)
    except BaseException:
        if staging.is_dir():
            shutil.rmtree(staging)
        staging.unlink(missing_ok=True)
        raise


def put_in_place(new: Path, target: Path) -> None:
    """Make the folder `new` stand at `target`; a reader, or a kill at any moment, meets the old folder or the new one.

    Linux exchanges the two in one step. Elsewhere a kill may come between two renames: then `restore` brings the old
    folder back.
    """
    if not target.exists():
        new.rename(target)
    elif _exchanged(new, target):
        shutil.rmtree(new)
    else:
        exchange_by_renames(new, target)


def exchange_by_renames(new: Path, target: Path) -> None:
    """`put_in_place` for systems that cannot exchange two folders."""
    old = _aside(target)
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old)


def restore(target: Path) -> None:
    """Undo or finish a killed `exchange_by_renames`; does nothing otherwise."""
    old = _aside(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(target)


@contextlib.contextmanager
def room_for(target: Path | None) -> Iterator[None]:
    """Report a full disk as an InputError that says what to do; files appear whole or not at all."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        why = f"no room to write {target} ({os.strerror(error.errno)})"
        raise InputError(
            f"{why}; make room and run it again: it resumes where it stopped; older files are unchanged"
        ) from None


def beside(out: Path, what: str) -> Path:
    """The hidden place `.NAME.what` next to an output; InputError for the root, next to which there is nothing.

    >>> beside(Path("/runs/a"), "lock").as_posix()
    '/runs/.a.lock'
    """
    out = out.resolve()
    if not out.name:
        raise InputError(f"{out} cannot be written to; name a folder in it")
    return out.with_name(f".{out.name}.{what}")


def check_writable(path: Path) -> None:
    """InputError where no file can be written at `path`: better before the long work that it is for. Makes its folder.

    A file that is there stays as it is.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = _staging(path)
        staging.touch()
        staging.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}; name another file") from None


def sha256_of(content: Path | bytes | io.BufferedReader | io.BytesIO) -> str:
    """The SHA-256 of a file (read in pieces) or of bytes, 64 hex digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, Path):
        with content.open("rb") as file:
            return sha256_of(file)
    return hashlib.file_digest(content, "sha256").hexdigest()


def _staging(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _exchanged(path: Path, other: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and not renameat2(
        AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )
