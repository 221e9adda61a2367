"""A time limit on decoding one file. A decoder that hangs gives nothing back, so only ending its process stops it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from mmrl.core.media.item import Media

BYTES = 10**5  # of a file that add a second to its limit: long videos take long
BLOCKED = 10  # times the limit may pass on the clock, because other programs use the processor, too

SIGNALS = (signal.SIGPROF, signal.SIGALRM)  # that end the process

_spare = False


def spare_process() -> None:
    """Declare that this process may be ended: another one then handles its sample."""
    global _spare
    _spare = True


@contextlib.contextmanager
def within(seconds: float, media: Media) -> Iterator[None]:
    """End this process by a signal if decoding `media`, inside, takes the processor longer than `seconds` and one for
    each `BYTES` of the file, or `BLOCKED` times that on the clock.

    Without `spare_process` it has no effect. A Python signal handler would run only after the decoder returns.
    """
    if not _spare:
        yield
        return
    limit = seconds + _size(media) / BYTES
    signal.setitimer(signal.ITIMER_PROF, limit)
    signal.setitimer(signal.ITIMER_REAL, BLOCKED * limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _size(media: Media) -> int:
    if media.bytes is not None:
        return len(media.bytes)
    try:
        return os.path.getsize(media.path or "")
    except (OSError, ValueError):
        return 0  # decoding reports what is wrong
