"""A deadline for any reward: it runs in a process of its own, which is killed if it hangs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rewards.base import Reward, Rollout, Verdict, as_verdict, failed
from rewards.isolation.worker import Worker, WorkerError

MAX_HANGS = 3  # groups that may time out one after the other before the rest of a batch is given up


def deadlined(target: str, reward: Any, seconds: float) -> Reward:
    """`reward`, scored by the function `target` ("module:function") in a process that is killed after `seconds`.

    `target` is called with (`reward`, rollouts) and returns the verdicts. When a batch times out its groups are tried
    one by one, each with the same deadline: only groups that hang fail ("timed out"). A rollout without a
    group is one of its own.
    """
    worker = Worker(target, first=(reward, []))
    timed_out = failed(f"timed out after {seconds:g} s")

    def within(rollouts: Sequence[Rollout]) -> list[Verdict] | None:
        """The verdicts, or None if they take too long."""
        try:
            plain = [replace(one, meta=dict(one.meta)) for one in rollouts]  # any mapping: pickle wants a dict
            verdicts = worker.ask((reward, plain), seconds=seconds)
        except TimeoutError:
            return None
        except WorkerError as error:
            return [failed(str(error))] * len(rollouts)
        return [as_verdict(verdict) for verdict in verdicts]

    def call(rollouts: Sequence[Rollout]) -> list[Verdict]:
        verdicts = within(rollouts) if rollouts else []
        groups = _groups(rollouts)
        if verdicts is not None or len(groups) < 2:
            return verdicts or [timed_out] * len(rollouts)
        column, hangs = [timed_out] * len(rollouts), 0
        for rows in groups:
            verdicts = within([rollouts[i] for i in rows]) if hangs < MAX_HANGS else None
            hangs += verdicts is None
            for i, verdict in zip(rows, verdicts or (), strict=False):
                column[i] = verdict
        return column

    return call


def _groups(rollouts: Sequence[Rollout]) -> list[list[int]]:
    rows: dict[Any, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        rows.setdefault(("alone", i) if rollout.group is None else ("group", rollout.group), []).append(i)
    return list(rows.values())
