"""Cache keys: the files that a source read, and the keys under which the results of stages are stored.

A source is read again when a file that it looked at has another size or time: tables, pictures, and files that were
missing. `existing` of sources and `resolve` of media report the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from data_engine.code_version import TARGET, version_of
from data_engine.seeding import digest
from mmrl.core.canonical_json import dumps
from mmrl.core.files import sha256_of
from mmrl.core.media.files import watchers

TABLES = (".arrow", ".csv", ".json", ".jsonl", ".parquet", ".tar", ".tsv", ".txt", ".p", ".pkl", ".pickle")


@contextmanager
def watching() -> Iterator[set[str]]:
    """Collects the paths that this process looks at inside the block."""
    seen: set[str] = set()
    watchers.append(seen)
    try:
        yield seen
    finally:
        watchers.remove(seen)


def state_of(path: str | Path) -> str:
    """The state of a file or folder: a text that changes with its content, found without reading it."""
    if os.path.isdir(path):
        listing = sorted(f"{os.path.relpath(file, path)} {_state(file, links=False)}" for file in _files(path))
        return f"folder {digest(*listing)}"
    return _state(path)


def unchanged(looks: Mapping[str, str]) -> bool:
    """Whether all files still have the recorded state."""
    return all(state_of(path) == state for path, state in looks.items())


def source_key(target: str, args: Mapping[str, Any], *about: object) -> str:
    """The key of a source with its options; the files that it reads are compared apart."""
    return digest("source", target, version_of(target), dumps(to_jsonable_python(dict(args))), *about)


def stage_key(target: str, args: Mapping[str, Any], root: Path) -> str:
    """The key of an operator with its options.

    Files, model directories and functions ("module:function") that options name count by content, not by place.
    """
    named = to_jsonable_python({name: value for name, value in args.items() if name != "root"})
    texts = sorted(set(_texts(named)))
    code = [version_of(text) for text in texts if TARGET.fullmatch(text)]
    return digest("stage", target, version_of(target), dumps(named), *code, *(_content(root, text) for text in texts))


def described(paths: list[str], root: Path) -> list[dict[str, Any]]:
    """The inputs of a source for the manifest: path relative to the root, size and SHA-256 of each table."""
    rows = []
    for path in sorted(paths):
        for file in sorted(_files(path)) if os.path.isdir(path) else [path]:
            if (file == path or file.endswith(TABLES)) and os.path.isfile(file):  # not a broken link
                rows.append(
                    {"path": _shown(file, root), "bytes": os.path.getsize(file), "sha256": sha256_of(Path(file))}
                )
    return rows


def without_places(value: Any) -> Any:
    """Options for the manifest: absolute paths, which differ between machines, are cut to their last part."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items() if key != "root"}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _shown(path: str, root: Path) -> str:
    inside = os.path.relpath(path, root)
    return os.path.basename(path) if inside.startswith("..") else Path(inside).as_posix()


def _files(folder: str | Path) -> Iterator[str]:
    """The files below a folder, without hidden ones: runs keep their stages in hidden folders."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in files if not name.startswith("."))


def _state(file: str | Path, *, links: bool = True) -> str:
    try:
        stat = os.stat(file, follow_symlinks=links)
    except (OSError, ValueError):  # a name that no file can have
        return "absent"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested options."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _content(root: Path, text: str) -> str:
    """The hash of the file that a text names, or the state of the folder that it names; else "".

    A bare word counts as a folder only if a model is in it: otherwise the word more likely means something else.
    """
    path = root / text
    if os.path.isfile(path):
        return sha256_of(path)
    folder = os.path.isdir(path) and (os.sep in text or "." in text or os.path.isfile(path / "config.json"))
    return state_of(path) if text and folder else ""
