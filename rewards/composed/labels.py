"""The labels of a teacher in a folder, and what a student learns of them. Shapes: N labels, D coordinates of a state.

Each process of a training writes a file of its own, `rank-0.jsonl`, and reads those of all. A line is an answer with
its state, or says up to which step the labels of this process are complete.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.core.config import InputError, RunError
from rewards.base import Reward, Rollout, Verdict

logger = logging.getLogger(__name__)

State = NDArray[np.float64]
Asked = tuple[Rollout, State, Verdict]  # an answer, its state, and what the student said

RIDGES = np.geomspace(1e-6, 1e2, 17)
MOST = 2048  # labels that a student learns from, the newest
PATIENCE = 1800.0  # seconds to wait for the labels of another process
LOOK = 0.05  # seconds between two looks for them

_opened: weakref.WeakSet[Labels] = weakref.WeakSet()


def settle() -> None:
    """Wait for the labels that teachers still owe; a checkpoint is whole with those of the steps before it."""
    for labels in _opened:
        labels.settle()


@dataclass(frozen=True)
class Version:
    """A student of the labels of the steps `before`; `failed` and `cause` are of answers without a label."""

    before: float
    labels: int
    failed: int = 0
    cause: str = ""
    weights_D: State = field(default_factory=lambda: np.zeros(0))
    middle_D: State = field(default_factory=lambda: np.zeros(0))
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def score(self, state_D: State) -> float:
        """What it expects, within the range of the labels."""
        expected = self.mean + float((state_D - self.middle_D) @ self.weights_D)
        return min(max(expected, self.low), self.high)


def learned(states_ND: State, scores_N: NDArray[np.float64]) -> tuple[State, State]:
    """(weights [D], middle [D]) of ridge regression from centred states to centred scores.

    The ridge is the one of `RIDGES`, in mean squares of a centred state, of least error on labels left out one by one.

    >>> weights, _ = learned(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0.0, 0.2, 0.4, 0.6]))
    >>> weights.round(3).tolist()
    [0.2]
    """
    middle_D, count = states_ND.mean(axis=0), len(states_ND)
    centred_ND, gaps_N = states_ND - middle_D, scores_N - scores_N.mean()
    values_N, vectors_NN = np.linalg.eigh(centred_ND @ centred_ND.T)
    values_N, along_N = values_N.clip(min=0), vectors_NN.T @ gaps_N
    tried = []
    for ridge in RIDGES * (float(values_N.sum()) or 1.0):
        kept_N = values_N / (values_N + ridge)
        own_N = (vectors_NN**2) @ kept_N + 1 / count  # how much of its own score a label predicts
        error_N = (gaps_N - vectors_NN @ (kept_N * along_N)) / (1 - own_N).clip(min=1e-9)
        tried.append((float(error_N @ error_N), float(ridge)))
    _, best = min(tried)
    return centred_ND.T @ (vectors_NN @ (along_N / (values_N + best))), middle_D


class Labels:
    """The labels of a training in `place`; the teacher is asked in a thread of its own."""

    def __init__(self, place: Path, teacher: Reward) -> None:
        self.teacher = teacher
        self.rank, self.processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.thread = ThreadPoolExecutor(1, "teacher")
        self.owed: list[Future[None]] = []
        self.step: int | None = None
        self.known: Counter[tuple[int, str, str]] = Counter()  # labels of a run that stopped, found again
        self.present: Version | None = None
        self.files = {rank: _LabelFile(place / f"rank-{rank}.jsonl") for rank in range(self.processes)}
        _opened.add(self)

    def begin(self, step: int) -> None:
        """Be at `step`: at step 0 a training begins and the folder is emptied, at another it goes on."""
        if self.step is not None and step >= self.step:
            self.step = step
            return
        self.settle()
        self.step, self.present = step, None
        own = self.files[self.rank]
        own.begin(new=step == 0)
        for file in self.files.values():
            file.forget()
        self.known = Counter(line_key(line) for line in own.lines())

    def version(self, step: int | None, *, every: int) -> Version:
        """The student of the steps up to the last multiple of `every`; without a step, the newest there is."""
        if step is None:
            settle()  # the labels of a training in this process
            return self._learned(float("inf"))
        before = step - step % every
        if self.present is None or self.present.before != before:
            self._wait(before)
            self.present = self._learned(before)
        return self.present

    def ask(self, answers: Sequence[Asked]) -> None:
        """Have the teacher label answers of the present step, but for those whose label was found."""
        new = []
        for answer in answers:
            key = self.step or 0, str(answer[0].group), answer[0].completion
            if self.known[key] > 0:
                self.known[key] -= 1
            else:
                new.append(answer)
        if new:
            self.owed.append(self.thread.submit(self._labelled, new, self.step or 0))

    def settle(self) -> None:
        """Wait for the labels that are still owed."""
        while self.owed:
            self.owed.pop(0).result()

    def _labelled(self, answers: Sequence[Asked], step: int) -> None:
        verdicts = self.teacher([rollout for rollout, _, _ in answers])
        self.files[self.rank].add(
            {
                "step": step,
                "group": str(rollout.group),
                "completion": rollout.completion,
                "score": verdict.score,
                "kind": verdict.kind,
                "why": verdict.why,
                "student": said.score,
                "said": said.why,
                "state": base64.b64encode(state.astype(np.float32).tobytes()).decode(),
            }
            for (rollout, state, said), verdict in zip(answers, verdicts, strict=True)
        )

    def _wait(self, before: int) -> None:
        """Wait until the labels of all steps before are there, in every process."""
        self.settle()
        if self.processes == 1:
            return
        self.files[self.rank].add([{"complete": before}])
        end = time.monotonic() + PATIENCE
        for rank, file in self.files.items():
            while file.complete() < before:
                if time.monotonic() > end:
                    raise RunError(f"{file.place} is not complete up to step {before}: process {rank} is behind")
                time.sleep(LOOK)

    def _learned(self, before: float) -> Version:
        lines = [line for file in self.files.values() for line in file.lines() if line["step"] < before]
        lines.sort(key=lambda line: line["step"])
        scored = [line for line in lines if line["score"] is not None]
        broken = [line["why"] for line in lines if line["kind"] == "failed"]
        about = before, len(scored), len(broken), broken[-1] if broken else ""
        if not scored:
            return Version(*about)
        newest = scored[-MOST:]
        scores_N = np.array([line["score"] for line in newest])
        weights_D, middle_D = learned(np.stack([line["state"] for line in newest]), scores_N)
        logger.info("student of the labels before step %s: %d", before, len(scored))
        bounds = float(scores_N.mean()), float(scores_N.min()), float(scores_N.max())
        return Version(*about, weights_D, middle_D, *bounds)


class _LabelFile:
    """The lines of a process, of which those that are new are read."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.forget()

    def begin(self, *, new: bool) -> None:
        """Empty the file, or leave its whole lines: a kill may have cut the last one."""
        if not new and not self.place.is_file():
            raise InputError(f"the labels of the steps before are gone: {self.place}")
        self.place.parent.mkdir(parents=True, exist_ok=True)
        whole = b"" if new else self.place.read_bytes()
        self.place.write_bytes(whole[: whole.rfind(b"\n") + 1])

    def forget(self) -> None:
        """Read from the beginning next time."""
        self._read, self._lines, self._complete = 0, list[dict[str, Any]](), 0

    def add(self, lines: Any) -> None:
        """Append lines, which are in the file when this returns."""
        with self.place.open("ab") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def lines(self) -> list[dict[str, Any]]:
        """The answers in the file, with their states as arrays."""
        if self.place.is_file():
            with self.place.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            self._read += len(new)
            for line in map(json.loads, new.splitlines()):
                if "complete" in line:
                    self._complete = line["complete"]
                else:
                    state = np.frombuffer(base64.b64decode(line["state"]), np.float32).astype(np.float64)
                    self._lines.append(line | {"state": state})
        return self._lines

    def complete(self) -> int:
        """Up to which step, exclusive, the labels of the process are there."""
        self.lines()
        return self._complete


def line_key(line: dict[str, Any]) -> tuple[int, str, str]:
    """What tells whether an answer was asked about before."""
    return line["step"], line["group"], line["completion"]
