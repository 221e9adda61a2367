"""A server process of our own: started, watched, ended with us."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmrl.core.config import RunError
from mmrl.engine.client import Client

logger = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two looks at a server that is starting
TAIL = 300  # characters of its log in a message


class StartError(RunError):
    """A server process that did not become well."""


class OwnServer:
    """The process that `command(port)` starts, with its output in the file `log`."""

    def __init__(
        self, command: Callable[[int], Sequence[str]], environment: Mapping[str, str], log: Path, *, deadline: float
    ) -> None:
        self.command, self.environment, self.log, self.deadline = command, environment, log, deadline
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> str:
        """Start the process at a free port, and wait until it is well; returns its address."""
        self.stop()
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        started, begun = time.monotonic(), self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmrl.engine.keeper", *self.command(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
            )
        client = Client(self.address, self.deadline)
        while not client.healthy(within=1.0):
            if not self.running:
                raise StartError(f"the engine did not start (status {self.process.returncode}): {self._said(begun)}")
            if time.monotonic() - started > self.deadline:
                self.stop()
                raise StartError(
                    f"the engine was not ready after {self.deadline:g} s (vllm.start_deadline): {self._said(begun)}"
                )
            time.sleep(PAUSE)
        logger.info("engine ready at %s after %.0f s", self.address, time.monotonic() - started)
        return self.address

    def stop(self) -> None:
        """End the process and all that it has started."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()  # its keeper ends it then
        self.process.wait()
        self.process = None

    def _said(self, begun: int) -> str:
        """The end of what the process has written since it was started."""
        written = self.log.read_bytes()[begun:].decode(errors="replace").strip()
        return f"...{written[-TAIL:]} (more in {self.log})".replace("\n", " | ")


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
