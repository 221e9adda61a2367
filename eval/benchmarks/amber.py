"""The files of AMBER: questions, annotations and word lists, which are joined by the ids of the questions."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.base import Row
from eval.benchmarks.files import rows_of
from mmrl.core.config import InputError
from rewards.parse.coco_objects import plural

ANNOTATIONS, RELATION, SAFE = "annotations.json", "relation.json", "safe_words.txt"


@dataclass(frozen=True, slots=True)
class Words:
    """AMBER's words: every listed one by its forms, what goes with each, and those that are never wrong."""

    listed: dict[str, str]
    near: dict[str, frozenset[str]]
    safe: frozenset[str]


def amber_questions(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """The yes/no questions with answers (`truth`) and types: joined from the official files, or rows as they are."""
    if (questions := _named(files, "query_discriminative.json")) is None:
        yield from rows_of(files, columns)
    else:
        yield from _joined(questions, _needed(files, ANNOTATIONS), columns)


def amber_descriptions(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """The pictures to describe, with the objects there (`truth`), those that models make up (`hallu`), and `words`, the
    directory of the word lists."""
    root = _needed(files, RELATION).parent
    words_sha256 = words_digest(str(root))
    for row in _joined(_needed(files, "query_generative.json"), _needed(files, ANNOTATIONS), columns):
        yield {**row, "words": str(root.resolve()), "words_sha256": words_sha256}


@functools.cache
def words_of(root: str) -> Words:
    """The word lists in a directory. A plural is a form of its singular, as lemmas are."""
    relation = json.loads((Path(root) / RELATION).read_text(encoding="utf-8"))
    near = {str(word): frozenset(map(str, others)) for word, others in relation.items()}
    every = {*near, *(word for others in near.values() for word in others)}
    forms = {plural(word): word for word in sorted(every) if word} | {word: word for word in every}
    return Words(forms, near, frozenset((Path(root) / SAFE).read_text(encoding="utf-8").split("\n")) - {""})


@functools.cache
def words_digest(root: str) -> str:
    """The hash of the word lists in a directory: 16 hex digits."""
    whole = hashlib.sha256()
    for name in (RELATION, SAFE):
        path = Path(root) / name
        if not path.is_file():
            raise InputError(f"AMBER's word list {path} is missing; expected {RELATION} and {SAFE} together")
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def _joined(questions: Path, annotations: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    known = {one.get("id"): one for one in rows_of([annotations], ("id", "type", "truth"))}
    for row in rows_of([questions], ("id", "image", "query")):
        if row["id"] not in known:
            raise InputError(f"{annotations} has no entry for the question {row['id']}")
        whole = {**known[row["id"]], **row}
        if missing := [name for name in columns if name not in whole]:
            raise InputError(f"question {row['id']} has no {', '.join(missing)}; it has {', '.join(whole)}")
        yield whole


def _named(files: list[Path], name: str) -> Path | None:
    return next((file for file in files if file.name == name), None)


def _needed(files: list[Path], name: str) -> Path:
    found = _named(files, name)
    if found is None:
        raise InputError(f"AMBER's {name} is not among {', '.join(sorted(file.name for file in files))}")
    return found
