"""`python -m mmrl.engine.keeper COMMAND ...`: runs a command that ends with the process that started it.

The starter holds the other end of this process' input. When it ends, however it ends, the input is at its end too: then
the command and all that it has started are ended. A server would otherwise keep its memory for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

PATIENCE = 10.0  # seconds between a request to end and its enforcement


def main() -> int:
    """Run the command of the command line; returns its exit status."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    status = child.wait()
    _signal(child.pid, signal.SIGKILL)  # what the command has left behind
    return status


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(child.pid, signal.SIGTERM)
    time.sleep(PATIENCE)
    _signal(child.pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
