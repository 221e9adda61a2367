"""One run at a time writes to a place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mmrl.core.config import InputError


class Lock:
    """A lock that ends with its process, however that ends. `place` is what it protects."""

    def __init__(self, path: Path, place: str) -> None:
        from filelock import FileLock, Timeout

        self._path = path
        self._lock = FileLock(path, thread_local=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            holder = "?"
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                holder = path.read_text(errors="replace") or holder
            raise InputError(
                f"another run (process {holder}) is writing to {place}; wait for it, or write to another place"
            ) from None
        path.write_text(str(os.getpid()))

    def release(self) -> None:
        """Let others write; the file of the lock is removed."""
        with contextlib.suppress(PermissionError):  # Windows keeps files that are open
            self._path.unlink(missing_ok=True)
        self._lock.release()
