"""One run at a time writes to a place."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mmrl.core.config import InputError


class Lock:
    """A lock that ends with its process, however that ends. `what` is what it keeps others from."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self._file, 20).decode(errors="replace") or "?"
                os.close(self._file)
                raise InputError(
                    f"another run (process {holder}) is writing to {what}; wait for it, or write to another place"
                ) from None
            if _is_still(self._file, path):  # else its last holder has just removed it
                break
            os.close(self._file)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let others write; the file of the lock is removed."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
