"""The operator that mixes: how many samples of each task, source and difficulty, and what if there are too few."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt, ValidationInfo

from data_engine.operator import Dropped, Spool, Weights, stream, traits
from data_engine.ops.select import PROPERTIES, Property
from data_engine.schema import Sample
from data_engine.seeding import digest
from mmrl.core.config import Config, InputError
from rewards.tasks.table import task_type

logger = logging.getLogger(__name__)

REPEAT = "repeat"  # the key of meta: how often training shows a sample in one pass; 1 where it is absent
FEW = 10  # values that a message names

Shortage = Literal["fill", "short", "fail"]


def times_shown(sample: Sample) -> int:
    """How often training shows a sample in one pass; a source may have used that key for something else."""
    times = sample.meta.get(REPEAT)
    return times if isinstance(times, int) and times >= 1 else 1


def _of_known_tasks(shares: dict[str, float] | str, about: ValidationInfo) -> dict[str, float] | str:
    for task in shares if about.data.get("by") == "task" and not isinstance(shares, str) else ():
        task_type(task)
    return shares


class Division(Config):
    """How the samples of one part are divided further: by the values of a property, in shares.

    The shares are weights of values, or `equal`, or `natural`: in the proportion of the samples that there are.
    """

    by: Property
    shares: Annotated[Weights | Literal["equal", "natural"], AfterValidator(_of_known_tasks)] = "natural"


@traits(repeats="repeat")
@stream
def quota(
    samples: Iterator[Sample],
    *,
    n: PositiveInt,
    by: Property,
    shares: Annotated[Weights, AfterValidator(_of_known_tasks)],
    then: list[Division] | None = None,
    repeat: PositiveInt = 1,
    shortage: Shortage = "fill",
    seed: int = 0,
) -> Iterator[Sample | Dropped]:
    """Keep `n` samples, divided in `shares` (value -> share) `by` a property, in their order.

    `then` divides each value further by other properties. Counts are rounded by largest remainder. Where a value has
    too few samples, each may be shown up to `repeat` times: `meta["repeat"]` is replaced and counts towards `n`.
    `shortage` says what happens if that is not enough: the others `fill` the gap in their shares, the result is
    `short`, or the run fails (`fail`).
    """
    divisions = [Division(by=by, shares=shares), *(then or ())]
    spool, members = Spool(), list[_Member]()
    for index, sample in enumerate(samples):
        spool.add(sample)
        values = tuple(str(PROPERTIES[division.by](sample)) for division in divisions)
        members.append(_Member(index, values, digest("quota", seed, sample.id)))
    if members and not any(_is_listed(member.values, divisions) for member in members):
        raise InputError(f"quota keeps nothing: {_unlisted(members, divisions)}")
    times = _Allotment(divisions, repeat, shortage).times(members, n)
    for index, sample in enumerate(spool):
        if not times.get(index):
            yield Dropped(sample, "over_quota" if _is_listed(members[index].values, divisions) else "not_in_quota")
        elif times[index] != sample.meta.get(REPEAT, 1):
            yield replace(sample, meta={**sample.meta, REPEAT: times[index]})
        else:
            yield sample


def _is_listed(values: Sequence[str], divisions: Sequence[Division]) -> bool:
    """Whether every value of a sample has a share."""
    return all(
        isinstance(division.shares, str) or division.shares.get(value)
        for value, division in zip(values, divisions, strict=True)
    )


def _unlisted(members: Sequence[_Member], divisions: Sequence[Division]) -> str:
    """The properties by which no sample has a share, and the values that samples have instead."""
    lacks = []
    for place, division in enumerate(divisions):
        there = sorted({member.values[place] for member in members})
        if not isinstance(division.shares, str) and not any(division.shares.get(value) for value in there):
            listed = ", ".join(value for value, share in division.shares.items() if share)
            values = ", ".join(value for value in there[:FEW] if value != "None")
            lacks.append(
                f"no sample has the {division.by} {listed}" + (f"; there are {values}" if values else ", or any")
            )
    return "; ".join(lacks) or "no sample has a share in every division"


@dataclass(frozen=True, slots=True)
class _Member:
    """A sample: its place, its value of each property, and its random draw."""

    index: int
    values: tuple[str, ...]
    draw: str


class _Allotment:
    """How often each sample is taken, division by division."""

    def __init__(self, divisions: Sequence[Division], repeat: int, shortage: Shortage) -> None:
        self._divisions, self._repeat, self._shortage = divisions, repeat, shortage

    def times(self, members: Sequence[_Member], n: int, depth: int = 0, within: str = "") -> dict[int, int]:
        """place -> how often it is taken, for a part that shall have `n` samples."""
        if depth == len(self._divisions):
            ordered = sorted(members, key=lambda member: (member.draw, member.index))
            rounds, over = divmod(n, max(len(ordered), 1))
            return {member.index: rounds + (rank < over) for rank, member in enumerate(ordered)}
        parts, shares = self._parts(members, depth)
        room = {value: self._room(parts[value], depth + 1) for value in shares}
        counts = self._counts(n, shares, room, depth, within)
        taken: dict[int, int] = {}
        for value, count in counts.items():
            name = f"{within}{self._divisions[depth].by} {value}, "
            taken |= self.times(parts[value], count, depth + 1, name)
        return taken

    def _counts(
        self, n: int, shares: Mapping[str, float], room: Mapping[str, int], depth: int, within: str
    ) -> dict[str, int]:
        wanted = largest_remainder(n, shares)
        lacking = {value: f"{room[value]} of {count}" for value, count in wanted.items() if room[value] < count}
        where = f"{within}by {self._divisions[depth].by}"
        if lacking and self._shortage == "fail":
            raise InputError(f"too few samples {where}: {lacking}; ask for fewer, repeat more, or set shortage: fill")
        if lacking:
            logger.warning("quota %s: too few samples: %s", where, lacking)
        if self._shortage == "fill":
            return filled(n, shares, room)
        return {value: min(count, room[value]) for value, count in wanted.items()}

    def _parts(self, members: Sequence[_Member], depth: int) -> tuple[dict[str, list[_Member]], dict[str, float]]:
        """(value -> its samples, value -> its share)."""
        parts: dict[str, list[_Member]] = defaultdict(list)
        for member in members:
            parts[member.values[depth]].append(member)
        given = self._divisions[depth].shares
        if isinstance(given, str):
            given = {value: 1.0 if given == "equal" else float(len(part)) for value, part in sorted(parts.items())}
        return parts, dict(given)

    def _room(self, members: Sequence[_Member], depth: int) -> int:
        """How many of a part there may be, with repeats."""
        if depth == len(self._divisions):
            return self._repeat * len(members)
        parts, shares = self._parts(members, depth)
        return sum(self._room(parts[value], depth + 1) for value, share in shares.items() if share > 0)


def largest_remainder(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`n` divided into whole numbers as near to the shares as possible; they sum to `n`.

    >>> largest_remainder(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    total = sum(shares.values())
    exact = {value: n * share / total for value, share in shares.items()}
    counts = {value: math.floor(part) for value, part in exact.items()}
    by_remainder = sorted(exact, key=lambda value: (counts[value] - exact[value], value))
    for value in by_remainder[: n - sum(counts.values())]:
        counts[value] += 1
    return counts


def filled(n: int, shares: Mapping[str, float], there: Mapping[str, int]) -> dict[str, int]:
    """Like `largest_remainder`, but no value gets more than is `there`; the others get the rest, in their shares.

    >>> filled(10, {"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 9, "c": 9})
    {'a': 1, 'b': 3, 'c': 6}
    """
    counts: dict[str, int] = {}
    open_shares = {value: share for value, share in shares.items() if share > 0}
    while open_shares:
        wanted = largest_remainder(n - sum(counts.values()), open_shares)
        full = [value for value in open_shares if wanted[value] >= there[value]]
        if not full:
            return counts | wanted
        for value in full:
            counts[value] = there[value]
            del open_shares[value]
    return counts
