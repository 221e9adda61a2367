"""One run at a time writes to a place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mmrl.core.config import InputError
from mmrl.core.files import beside


@contextlib.contextmanager
def alone(out: Path, *, needed: bool = True) -> Iterator[None]:
    """A block during which no other process writes to the folder `out`; InputError if one does now.

    Of several processes of one run only the first needs the lock.
    """
    lock = Lock(out) if needed else None
    try:
        yield
    finally:
        if lock:
            lock.release()


class Lock:
    """A lock on the folder `out`, in a hidden file next to it; it ends with its process, however that ends."""

    def __init__(self, out: Path) -> None:
        from filelock import FileLock, Timeout

        self._path = beside(out, "lock")
        self._lock = FileLock(self._path, thread_local=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            holder = "?"
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                holder = self._path.read_text(errors="replace") or holder
            raise InputError(
                f"another run (process {holder}) is writing to {out.resolve()}; wait for it, or write to another place"
            ) from None
        self._path.write_text(str(os.getpid()))

    def release(self) -> None:
        """Let others write; the file of the lock is removed."""
        with contextlib.suppress(PermissionError):  # Windows keeps files that are open
            self._path.unlink(missing_ok=True)
        self._lock.release()
