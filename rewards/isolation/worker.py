"""A process of its own for work that may hang: asked one thing at a time, killed at its deadline, started again.

The child runs `serve("MODULE:FUNCTION")` and answers each question on its standard input with what the
function returns. Questions and answers are pickles between this process and its own child.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, BinaryIO

STARTUP = 120.0  # seconds for the imports of the child; they do not count against the deadline
GRACE = 5.0  # seconds after its deadline at which a child ends itself, were its parent gone
_HEAD = struct.Struct("!Q")
_SERVE = "import sys; from rewards.isolation.worker import serve; serve(sys.argv[1])"


class WorkerDied(RuntimeError):  # noqa: N818 - named for what happened, not a mistake in the code
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

        What the function raises there is raised here, as RuntimeError; WorkerDied if the child crashed.
        """
        with self._lock:
            process = self._running()
            try:
                self._send(process, (question, seconds), time.monotonic() + seconds)
                fine, answer = self._receive(process, time.monotonic() + seconds)
            except (TimeoutError, OSError, EOFError):
                status = self._stop()
                if isinstance(sys.exception(), TimeoutError):
                    raise
                raise WorkerDied(f"the process of {self.target} died with status {status}") from None
        if not fine:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._parent != os.getpid():
            self._process = None  # a fork of this process: the child is the other's
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, self.target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        self._process, self._parent = process, os.getpid()
        os.set_blocking(_pipe(process.stdin).fileno(), False)
        self._end = weakref.finalize(self, _kill, process, os.getpid())  # also when this process ends
        try:
            fine, problem = self._receive(process, time.monotonic() + STARTUP)
            if fine and self.first is not None:
                self._send(process, (self.first, STARTUP), time.monotonic() + STARTUP)
                fine, problem = self._receive(process, time.monotonic() + STARTUP)
        except (TimeoutError, OSError, EOFError):
            raise WorkerDied(f"the process of {self.target} did not start (status {self._stop()})") from None
        if not fine:
            self._stop()
            raise RuntimeError(problem)
        return process

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        self._end()
        return process.returncode

    @staticmethod
    def _send(process: subprocess.Popen[bytes], message: Any, until: float) -> None:
        pipe, left = _pipe(process.stdin).fileno(), memoryview(_packed(message))
        while left:
            if not select.select([], [pipe], [], max(until - time.monotonic(), 0))[1]:
                raise TimeoutError
            left = left[os.write(pipe, left) :]

    @staticmethod
    def _receive(process: subprocess.Popen[bytes], until: float) -> Any:
        pipe, data, wanted = _pipe(process.stdout).fileno(), bytearray(), _HEAD.size
        while len(data) < wanted:
            if not select.select([pipe], [], [], max(until - time.monotonic(), 0))[0]:
                raise TimeoutError
            chunk = os.read(pipe, min(wanted - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
            if len(data) == _HEAD.size == wanted:
                wanted += _HEAD.unpack(data)[0]
        return pickle.loads(memoryview(data)[_HEAD.size :])


def serve(target: str) -> None:
    """Answer questions until the parent closes the pipe. What the function prints goes to standard error."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        function = resolve_name(target)
    except Exception as error:  # told to the parent, who decides
        _answer(answers, (False, f"cannot import {target}: {type(error).__name__}: {error}"))
        return
    _answer(answers, (True, None))
    while head := questions.read(_HEAD.size):
        question, seconds = pickle.loads(questions.read(_HEAD.unpack(head)[0]))
        signal.alarm(math.ceil(seconds + GRACE))  # the kernel ends an orphan that hangs
        try:
            reply = (True, function(question))
        except Exception as error:
            reply = (False, f"{type(error).__name__}: {error}")
        signal.alarm(0)
        _answer(answers, reply)


def _answer(pipe: BinaryIO, reply: tuple[bool, Any]) -> None:
    try:
        packed = _packed(reply)
    except Exception as error:  # an answer may be anything, also what cannot be pickled
        packed = _packed((False, f"{type(error).__name__}: {error}"))
    pipe.write(packed)
    pipe.flush()


def _packed(message: Any) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(data)) + data


def _pipe(stream: Any) -> BinaryIO:
    return stream


def _kill(process: subprocess.Popen[bytes], parent: int) -> None:
    if os.getpid() != parent:
        return
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            _pipe(stream).close()
