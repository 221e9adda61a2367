"""A time limit on decoding one file. A decoder that hangs gives nothing back, so only ending its process stops it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from data_engine.schema import Media

BYTES = 10**6  # of a file, for which it is given one second more: long videos take long

_spare = False


def spare_process() -> None:
    """Say that this process may be ended: another one will see to the sample that it looked at."""
    global _spare
    _spare = True


@contextlib.contextmanager
def within(seconds: float, media: Media) -> Iterator[None]:
    """End this process by SIGALRM if decoding `media`, inside, takes longer than `seconds` and one a megabyte.

    Where the process may not be ended, nothing is done. A handler of Python's would wait until the decoder is done.
    """
    if not _spare:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds + _size(media) / BYTES)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _size(media: Media) -> int:
    if media.bytes is not None:
        return len(media.bytes)
    try:
        return os.path.getsize(media.path or "")
    except (OSError, ValueError):
        return 0  # decoding will say what is wrong
