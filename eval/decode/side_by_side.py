"""Several draws decoded at the same time: their requests to the model share batches.

A method of decoding is a generator: it yields a Request whenever it needs the model, and is sent the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from eval.answer.local import LocalGenerator
from mmrl.model.encoding import Encoded

ResultT = TypeVar("ResultT")
Key = Sequence[int | str]


@dataclass
class Request:
    """Up to `length` tokens after each row, a stop token included (`temperature` 0 is greedy, `keys` name the random
    numbers of each row); without keys, the [V] log-probabilities of the token after each row."""

    rows: Sequence[Encoded]
    length: int = 1
    temperature: float = 0.0
    keys: Sequence[Key] | None = None


Steps: TypeAlias = Generator[Request, list[Any], ResultT]  # is sent the answer to each request, one per row


def decoded(steps: Sequence[Steps[ResultT]], generator: LocalGenerator, size: int) -> list[ResultT]:
    """The result of each of `steps`; up to `size` rows go into one forward."""
    results: dict[int, ResultT] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(steps)))
    while answers:
        requests: dict[int, Request] = {}
        for number, answer in answers.items():
            try:
                requests[number] = steps[number].send(answer)
            except StopIteration as stop:
                results[number] = stop.value
        answers = dict(zip(requests, _answered(list(requests.values()), generator, size), strict=True))
    return [results[number] for number in range(len(steps))]


def _answered(requests: Sequence[Request], generator: LocalGenerator, size: int) -> list[list[Any]]:
    """The answer to each request. Requests of one kind share batches, the longest rows first."""
    kinds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for at, request in enumerate(requests):
        kinds[request.keys is None, request.length, request.temperature].append(at)
    answers: list[list[Any]] = [[None] * len(request.rows) for request in requests]
    for same in kinds.values():
        places = [(at, row) for at in same for row in range(len(requests[at].rows))]
        places.sort(key=lambda place: -len(requests[place[0]].rows[place[1]].input_ids))
        for start in range(0, len(places), size):
            batch = places[start : start + size]
            for (at, row), answer in zip(batch, _forward(requests, batch, generator), strict=True):
                answers[at][row] = answer
    return answers


def _forward(requests: Sequence[Request], batch: Sequence[tuple[int, int]], generator: LocalGenerator) -> Sequence[Any]:
    first, rows = requests[batch[0][0]], [requests[at].rows[row] for at, row in batch]
    if first.keys is None:
        return generator.next_log_probs(rows)
    keys = [(requests[at].keys or ())[row] for at, row in batch]
    return generator.continued(rows, first.length, temperature=first.temperature, keys=keys)
