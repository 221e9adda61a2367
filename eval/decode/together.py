"""Draws decoded side by side: each runs until it asks the model for something, and what all of them ask for is a batch.

Every draw has a thread, of which one runs at a time; the methods of decoding stay straight code about one prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Any, TypeVar

from torch import Tensor

from eval.answer.local import LocalGenerator
from mmrl.model.encoding import Encoded

Answer = TypeVar("Answer")
Key = Sequence[int | str]


@dataclass
class Request:
    """What a draw wants: up to `length` tokens after each row, or, without keys, what comes next after each."""

    seat: int
    rows: Sequence[Encoded]
    length: int = 1
    temperature: float = 0.0
    keys: Sequence[Key] | None = None
    answer: list[Any] | None = None


class Together:
    """A model that several draws ask at the same time; up to `size` rows go into one forward."""

    def __init__(self, generator: LocalGenerator, size: int) -> None:
        self.generator, self._size = generator, size
        self._baton = Condition()  # held by the one who runs: a draw, or the model
        self._running = 0
        self._waiting: list[Request] = []
        self._stopped: BaseException | None = None

    def run(self, jobs: Sequence[Callable[[Seat], Answer]]) -> list[Answer]:
        """What each job returns, given its seat at the model."""
        self._running, self._stopped = len(jobs), None
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(self._run, job, Seat(self, number)) for number, job in enumerate(jobs)]
            try:
                self._serve()
            except BaseException as error:
                with self._baton:
                    self._stopped = error  # nobody may wait for ever
                    self._baton.notify_all()
                raise
        return [future.result() for future in futures]

    def ask(self, request: Request) -> list[Any]:
        """The answer to a request, which comes when all other draws wait too."""
        self._waiting.append(request)
        self._running -= 1
        self._baton.notify_all()
        self._baton.wait_for(lambda: request.answer is not None or self._stopped is not None)
        if request.answer is None:
            raise RuntimeError("decoding was stopped") from self._stopped
        return request.answer

    def _run(self, job: Callable[[Seat], Answer], seat: Seat) -> Answer:
        with self._baton:
            try:
                return job(seat)
            finally:
                self._running -= 1
                self._baton.notify_all()

    def _serve(self) -> None:
        """Answer what is asked until no draw asks any more."""
        with self._baton:
            while True:
                self._baton.wait_for(lambda: not self._running)
                asked, self._waiting = sorted(self._waiting, key=lambda one: one.seat), []
                if not asked:
                    return
                self._answer(asked)
                self._running = len(asked)
                self._baton.notify_all()

    def _answer(self, asked: Sequence[Request]) -> None:
        groups: dict[tuple[Any, ...], list[Request]] = defaultdict(list)
        for request in asked:
            groups[request.keys is None, request.length, request.temperature].append(request)
        for same in groups.values():
            rows = [(row, at, number) for at, one in enumerate(same) for number, row in enumerate(one.rows)]
            rows.sort(key=lambda row: -len(row[0].input_ids))
            found: dict[tuple[int, int], Any] = {}
            for start in range(0, len(rows), self._size):
                batch = rows[start : start + self._size]
                answers = self._forward(same, batch)
                found |= {(at, number): answer for (_, at, number), answer in zip(batch, answers, strict=True)}
            for at, one in enumerate(same):
                one.answer = [found[at, number] for number in range(len(one.rows))]

    def _forward(self, same: Sequence[Request], batch: Sequence[tuple[Encoded, int, int]]) -> Sequence[Any]:
        first, rows = same[0], [row for row, _, _ in batch]
        if first.keys is None:
            return self.generator.next_log_probs(rows)
        keys = [(same[at].keys or ())[number] for _, at, number in batch]
        return self.generator.continued(rows, first.length, temperature=first.temperature, keys=keys)


class Seat:
    """The model as one of the draws sees it. `read`: tokens of the rows it has read to say what comes next."""

    def __init__(self, together: Together, number: int) -> None:
        self.generator, self.read = together.generator, 0
        self._together, self._number = together, number

    def continued(
        self, rows: Sequence[Encoded], length: int, *, temperature: float, keys: Sequence[Key]
    ) -> list[list[int]]:
        """Up to `length` tokens after each row, a stop token included; `temperature` 0 is greedy."""
        return self._together.ask(Request(self._number, rows, length, temperature, keys)) if rows else []

    def next_log_probs(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """[V] log-probabilities of the token after each row."""
        self.read += sum(len(row.input_ids) for row in rows)
        return self._together.ask(Request(self._number, rows)) if rows else []
