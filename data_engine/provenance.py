"""Where a dataset comes from, for its manifest: its sources with the files they read, its operators with versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from data_engine.chunks import Chunks
from data_engine.draw import digest
from data_engine.inputs import described, state_of, without_places
from data_engine.ops.quotas import REPEAT
from data_engine.ops.select import PROPERTIES
from data_engine.recipe import PlannedSource, Recipe, Stage
from data_engine.schema import Sample
from data_engine.versions import version_of

SHORT = 12  # digits of a version that are shown


def origin_of(
    recipe: Recipe, sources: Iterable[PlannedSource], stages: Iterable[Stage], chunks: Chunks
) -> dict[str, Any]:
    """What the manifest says of a run: nothing of time, machine or place, so that equal runs say the same."""
    root = recipe.root.absolute()
    return {
        "seed": recipe.seed,
        "sources": [_source(source, root, chunks) for source in sources],
        "operators": [
            {"fn": stage.name, "args": _plain(stage.args), "version": version_of(stage.target)[:SHORT]}
            for stage in stages
        ],
    }


def _source(source: PlannedSource, root: Path, chunks: Chunks) -> dict[str, Any]:
    state = digest(*(f"{path} {state_of(path)}" for path in source.inputs))
    return {
        "name": source.label,
        "fn": source.spec.fn,
        "args": _plain(source.args),
        "limit": source.spec.limit,
        "licence": source.spec.licence,
        "version": version_of(source.target)[:SHORT],
        "inputs": chunks.remembered(digest("inputs", root, state), lambda: described(source.inputs, root)),
    }


def _plain(args: dict[str, Any]) -> Any:
    return without_places(to_jsonable_python({name: value for name, value in args.items() if name != "root"}))


def requested(stages: Sequence[Stage]) -> list[tuple[str, dict[str, float]]]:
    """(property, shares that sum to 1) of the stages that choose samples by shares, `mix` and `quota`."""
    asked = []
    for stage in stages:
        shares = stage.args.get("weights") or stage.args.get("shares")
        by = "source" if stage.name == "mix" else stage.args.get("by")
        if stage.name in ("mix", "quota") and shares and by in PROPERTIES:
            total = sum(shares.values())
            asked.append((by, {value: share / total for value, share in shares.items()}))
    return asked


class Mix:
    """The shares of a property that were asked for, and those that came about."""

    def __init__(self, by: str, shares: dict[str, float]) -> None:
        self._by, self._shares, self._counts = by, shares, Counter[str]()

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        times = sample.meta.get(REPEAT, 1)
        self._counts[str(PROPERTIES[self._by](sample))] += times  # pyright: ignore[reportArgumentType]

    def as_dict(self) -> dict[str, Any]:
        """Both, for the manifest."""
        total = self._counts.total()
        achieved = {value: count / total for value, count in sorted(self._counts.items())}
        return {"by": self._by, "requested": self._shares, "achieved": achieved}
