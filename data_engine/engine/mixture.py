"""The mix that a recipe requests, next to the mix that is achieved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_engine.ops.quotas import Division, largest_remainder, times_shown
from data_engine.ops.select import PROPERTIES, Property
from data_engine.recipe import Stage
from data_engine.schema import Sample


class Mix:
    """Requested and achieved shares of a property, counted over the samples that have the values in `within`.

    `counts` are the requested numbers of samples, if any. A sample that is repeated counts as often.
    """

    def __init__(
        self,
        by: Property,
        shares: Mapping[str, float],
        *,
        counts: Mapping[str, int] | None = None,
        within: Mapping[Property, str] | None = None,
    ) -> None:
        total = sum(shares.values())
        self._by, self._within, self._counts = by, within or {}, counts
        self._shares = {value: share / total for value, share in shares.items()}
        self._count = Counter[str]()

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        if all(str(PROPERTIES[name](sample)) == value for name, value in self._within.items()):
            self._count[str(PROPERTIES[self._by](sample))] += times_shown(sample)

    def as_dict(self) -> dict[str, Any]:
        """Requested and achieved shares, for the manifest."""
        total = self._count.total()
        achieved = {value: count / total for value, count in sorted(self._count.items())}
        shares = {"by": self._name(), "requested": self._shares, "achieved": achieved}
        if self._counts is None:
            return shares
        return shares | {"requested_samples": dict(self._counts), "achieved_samples": dict(sorted(self._count.items()))}

    def _name(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self._within.items())
        return f"{self._by} within {where}" if where else self._by


def requested(stages: Sequence[Stage]) -> list[Mix]:
    """The mixes that the stages request: `mix` in shares, `quota` in numbers of samples."""
    mixes: list[Mix] = []
    for stage in stages:
        args = stage.args
        if stage.target.endswith("select:mix"):
            mixes.append(Mix("source", args["weights"]))
        elif stage.target.endswith("quotas:quota"):
            divisions = [Division(by=args["by"], shares=args["shares"]), *(args["then"] or ())]
            mixes += _divided(divisions, args["n"], {})
    return mixes


def _divided(divisions: Sequence[Division], n: int, within: Mapping[Property, str]) -> Iterator[Mix]:
    """The mix of the first division and, within each of its values, of the next divisions; shares that follow the data
    request nothing."""
    first, *rest = divisions
    if isinstance(first.shares, str):
        return
    counts = largest_remainder(n, first.shares)
    yield Mix(first.by, first.shares, counts=counts, within=within)
    if rest:
        for value, count in counts.items():
            yield from _divided(rest, count, {**within, first.by: value})
