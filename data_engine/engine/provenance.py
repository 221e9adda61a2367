"""The origin of a dataset, for its manifest: sources with the files they read, operators with their versions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from data_engine.cache_keys import described, state_of, without_places
from data_engine.code_version import version_of
from data_engine.engine.chunks import Chunks
from data_engine.recipe import PlannedSource, Recipe, Stage
from data_engine.seeding import digest

SHORT = 12  # digits of a version that are shown


def origin_of(
    recipe: Recipe, sources: Iterable[PlannedSource], stages: Iterable[Stage], chunks: Chunks
) -> dict[str, Any]:
    """The origin in the manifest. It holds no time, machine or place, so that equal runs write equal manifests."""
    root = recipe.root.absolute()
    return {
        "seed": recipe.seed,
        "sources": [_source(source, root, chunks) for source in sources],
        "operators": [
            {"fn": stage.name, "args": _plain(stage.args), "version": version_of(stage.target)[:SHORT]}
            for stage in stages
        ],
        **({"prompt": recipe.prompt.protocol()} if recipe.prompt else {}),
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
