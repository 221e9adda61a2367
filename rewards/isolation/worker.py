"""A process of its own for work that may hang: asked one thing at a time, killed at its deadline, started again.

The child runs `serve("MODULE:FUNCTION", fd)` and answers each question on a pipe with the function's return value.
Questions and answers are pickles between this process and its own child. Why not `pebble`, which does the same:
measured together a question took 0.50 ms there and 0.12 ms here, and an answer of `math_match` often takes 1 ms.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pkgutil import resolve_name
from typing import Any

STARTUP = 120.0  # seconds for the imports of the child; they do not count against the deadline
LONGEST = 604_800.0  # seconds of a deadline: no pipe waits for 25 days, nor does it need to
GRACE = 5.0  # seconds after its deadline at which a child ends itself, were its parent gone
# `mmrl` comes first, so that `rewards` is ours (`mmrl.core.beside`)
_SERVE = "import sys, mmrl; from rewards.isolation.worker import serve; serve(sys.argv[1], int(sys.argv[2]))"


class WorkerError(RuntimeError):
    """The child ended before it answered."""


class Worker:
    """The child process that runs `target`; safe to use from several threads, which wait for each other.

    A child that starts is asked `first`, if given, which may import as much as it likes: no deadline counts that.

    >>> Worker("math:sqrt").ask(9.0, seconds=5)
    3.0
    """

    def __init__(self, target: str, first: Any = None) -> None:
        self.target, self.first = target, first
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = 0
        self._end: Callable[[], object] = lambda: None

    def ask(self, question: Any, *, seconds: float) -> Any:
        """The child's answer; TimeoutError (and the child is killed) after `seconds`.

        RuntimeError with the message of an exception that the function raised; WorkerError if the child crashed.
        """
        with self._lock:
            if self._process is None or self._parent != os.getpid() or self._process.poll() is not None:
                self._start()  # in a fork of this process too: the child is the other's
            return self._answer(question, min(seconds, LONGEST))

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._stop()
        self._pipe, theirs = Pipe()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE, self.target, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        theirs.close()
        self._process, self._parent = process, os.getpid()
        self._end = weakref.finalize(self, _kill, process, self._pipe, self._parent)  # also when this process ends
        try:
            self._reply(STARTUP)
            if self.first is not None:
                self._answer(self.first, STARTUP)
        except (OSError, EOFError):  # TimeoutError is an OSError
            raise WorkerError(f"the process of {self.target} did not start (status {self._stop()})") from None
        except RuntimeError:
            self._stop()
            raise

    def _answer(self, question: Any, seconds: float) -> Any:
        try:
            self._pipe.send_bytes(_packed((question, seconds)))
            return self._reply(seconds)
        except TimeoutError:
            self._stop()
            raise
        except (OSError, EOFError):
            raise WorkerError(f"the process of {self.target} died with status {self._stop()}") from None

    def _reply(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        fine, answer = pickle.loads(self._pipe.recv_bytes())
        if not fine:
            raise RuntimeError(answer)
        return answer

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        self._end()
        return process.returncode if process else None


def serve(target: str, pipe: int) -> None:
    """Answer questions until the parent closes the pipe. The function's output goes to standard error."""
    os.dup2(2, 1)
    with Connection(pipe) as questions:
        try:
            function = resolve_name(target)
        except Exception as error:  # reported to the parent, which decides
            questions.send_bytes(_packed((False, f"cannot import {target}: {_named(error)}")))
            return
        questions.send_bytes(_packed((True, None)))
        while True:
            try:
                question, seconds = pickle.loads(questions.recv_bytes())
            except EOFError:
                return
            signal.alarm(math.ceil(seconds + GRACE))  # the kernel ends an orphan that hangs
            try:
                reply = _packed((True, function(question)))
            except Exception as error:  # also of an answer that cannot be pickled
                reply = _packed((False, _named(error)))
            signal.alarm(0)
            questions.send_bytes(reply)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _packed(message: Any) -> bytes:
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def _kill(process: subprocess.Popen[bytes], pipe: Any, parent: int) -> None:
    if os.getpid() != parent:
        return
    process.kill()
    process.wait()
    pipe.close()
