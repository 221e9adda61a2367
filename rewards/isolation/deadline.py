"""A deadline for any reward: it runs in a process of its own, and what hangs is killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.base import MediaRef, Reward, Rollout, Verdict, as_verdict, failed
from rewards.isolation.worker import Worker, WorkerDied

MAX_HANGS = 3  # groups that may time out one after the other before the rest of a batch is given up


def deadlined(name: str, args: Mapping[str, Any], seconds: float) -> Reward:
    """The reward of this name and options, in a process that is killed when a call takes longer than `seconds`.

    When a batch times out its groups are tried one by one, each with the same deadline: what hangs fails alone, with
    the verdict "timed out". A rollout without a group is one of its own.
    """
    worker = Worker("rewards.isolation.deadline:score", first=(name, dict(args), []))

    def call(rollouts: Sequence[Rollout]) -> list[Verdict]:
        verdicts = _within(worker, name, args, rollouts, seconds)
        groups = _groups(rollouts)
        if verdicts is not None or len(groups) < 2:
            return verdicts or [_timed_out(seconds)] * len(rollouts)
        column, hangs = [_timed_out(seconds)] * len(rollouts), 0
        for rows in groups:
            verdicts = _within(worker, name, args, [rollouts[i] for i in rows], seconds) if hangs < MAX_HANGS else None
            hangs += verdicts is None
            for i, verdict in zip(rows, verdicts or (), strict=False):
                column[i] = verdict
        return column

    return call


def score(question: tuple[str, Mapping[str, Any], Sequence[Rollout]]) -> list[Verdict]:
    """The verdicts of a reward, in the worker, which makes it once."""
    from rewards.registry import get

    name, args, rollouts = question
    key = f"{name} {args!r}"
    if key not in _MADE:
        _MADE[key] = get(name, **args)
    return _MADE[key](rollouts) if rollouts else []


_MADE: dict[str, Reward] = {}


def _within(
    worker: Worker, name: str, args: Mapping[str, Any], rollouts: Sequence[Rollout], seconds: float
) -> list[Verdict] | None:
    """The verdicts, or None if they take too long."""
    if not rollouts:
        return []
    try:
        answer = worker.ask((name, dict(args), [_plain(one) for one in rollouts]), seconds=seconds)
    except TimeoutError:
        return None
    except WorkerDied as error:
        return [failed(str(error))] * len(rollouts)
    return [as_verdict(one) for one in answer]


def _plain(rollout: Rollout) -> Rollout:
    """The rollout with media as references, which any process can read."""
    media = [MediaRef(item.kind, item.path, item.width, item.height) for item in rollout.media]
    return Rollout(
        rollout.completion,
        rollout.answer,
        rollout.task,
        rollout.prompt,
        media,
        rollout.seen_size,
        dict(rollout.meta),
        rollout.group,
        rollout.step,
        rollout.total_steps,
    )


def _groups(rollouts: Sequence[Rollout]) -> list[list[int]]:
    rows: dict[Any, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        rows.setdefault(("alone", i) if rollout.group is None else ("group", rollout.group), []).append(i)
    return list(rows.values())


def _timed_out(seconds: float) -> Verdict:
    return failed(f"timed out after {seconds:g} s")
