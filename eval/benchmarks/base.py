"""What a published benchmark is: where its rows are, what is asked about a row, how records become numbers."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from eval.records import Record
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.media.item import MediaKind
from mmrl.core.vision import CoordinateSpace

Row = Mapping[str, Any]
Metrics = dict[str, float | None]
Scorers = Mapping[str, Mapping[str, Any]]

JUDGE = "judge"  # the judge of a run that benchmarks ask, where it has several
EDITS = "(edits)"  # the column under which a row finds the directory of edited pictures
LETTER_ONLY = "Answer with the option's letter from the given choices directly."
SHORT = "Answer the question using a single word or phrase."
SPACES = {
    CoordinateSpace.pixel: "in pixels of the original image",
    CoordinateSpace.resized: "in pixels of the image as you see it",
    CoordinateSpace.unit: "as fractions of the image's width and height, from 0 to 1",
    CoordinateSpace.per_mille: "scaled to 0 to 1000 of the image's width and height",
}


class BenchmarkFiles(Config):
    """Where the rows of a named benchmark are: `path`, a file or directory in its official layout, or `revision`, a
    commit of its hub dataset that is in the local cache.

    `limit` caps the questions, `split` is another than the usual one, and relative media paths start at `media_root`,
    by default beside the file. `edits` is the directory of edited pictures, where those are what is scored.
    `args` are options of scorers by their names, such as `judge_dcscore: {trials: 3}`.
    """

    path: str | None = None
    revision: str | None = None
    split: str | None = None
    limit: PositiveInt | None = None
    media_root: str | None = None
    edits: str | None = None
    args: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.revision is None):
            raise ValueError(f"path {self.path!r} with revision {self.revision!r}; give one of the two")
        return self


@dataclass(frozen=True, slots=True)
class Medium:
    """An image or video of an item as its row gives it: bytes, or a path below the benchmark's media directory.

    A `made` one is what a model made: it may be missing or damaged, and is then left out.
    """

    source: bytes | str
    kind: MediaKind = "image"
    start: float | None = None
    end: float | None = None
    made: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark. `id` is its own; `group` is what a limit must not tear apart.

    `named` says that rows bring no ids, and this one is made of what is asked: a row may come twice then.
    """

    id: str
    task: str
    text: str
    answer: dict[str, Any]
    media: tuple[Medium, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named benchmark.

    `columns` must be in the rows. `rewards` holds the default scorer (mostly `accuracy`) and, with weight 0, its
    variants by name: all of them score every answer, so that a variant's effect is seen beside the default. `judged`
    holds those that need a judge, under names that begin with `judge_`; with no `rewards` beside them the run must have
    one. `rows` and `size` are the published numbers of rows and of items; others are told and no error. `read` is for
    layouts of several files, and an empty `split` for all files of a directory. `folders` are those in the hub's
    dataset that hold this benchmark, where others are beside it. With `edits` it is edited pictures that are scored.
    `needs` says what cannot be had here.
    """

    name: str
    hub: str
    columns: tuple[str, ...]
    items: Callable[[Row, CoordinateSpace], Iterable[Item]]
    rewards: Scorers
    metrics: Callable[[Sequence[Record]], Metrics]
    split: str = "test"
    rows: int | None = None
    size: int | None = None
    version: int = 1
    needs: str = ""
    judged: Scorers = field(default_factory=dict)
    read: Callable[[list[Path], tuple[str, ...]], Iterable[Row]] | None = None
    edits: bool = False
    folders: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The scorer that decides whether there are numbers at all."""
        return next(iter({**self.rewards, **self.judged}))

    def scorers(self, judges: Collection[str], args: Scorers | None = None) -> dict[str, dict[str, Any]]:
        """The scorers of a run with these judges, of which the one called `judge`, or the only one, is asked.

        `args` are more options of scorers by their names.
        """
        found = self._scorers(judges)
        for name, options in (args or {}).items():
            if name not in found:
                raise InputError(
                    f"benchmark {self.name} has no scorer {name!r} to give options; {nearest(name, found)}"
                )
            found[name]["args"] = {**found[name]["args"], **options}
        return found

    def _scorers(self, judges: Collection[str]) -> dict[str, dict[str, Any]]:
        if not self.judged or (not judges and self.rewards):
            return {name: dict(spec) for name, spec in self.rewards.items()}
        judge = JUDGE if JUDGE in judges else next(iter(judges), None)
        if judge is None or (judge != JUDGE and len(judges) > 1):
            had = f"none of {', '.join(judges)} is called that" if judges else "there is none"
            raise InputError(f"benchmark {self.name} asks a judge, and {had}; put one called {JUDGE!r} under `judges:`")
        asked = {name: {**spec, "args": {**spec["args"], "judge": judge}} for name, spec in self.judged.items()}
        return {name: dict(spec) for name, spec in {**self.rewards, **asked}.items()}


def variant(fn: str, **args: Any) -> dict[str, Any]:
    """A scorer beside the default one: it counts nothing in a record's total."""
    return {"fn": fn, "args": args, "weight": 0.0}


def default(fn: str, **args: Any) -> dict[str, Any]:
    """The scorer of a benchmark."""
    return {"fn": fn, "args": args}


def picture(value: Any) -> tuple[Medium, ...]:
    """The image in a cell: bytes, a path, or a mapping with one of them; nothing where there is none."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None or value in ("", b""):
        return ()
    if not isinstance(value, bytes | str):
        raise InputError(f"an image cell holds {type(value).__name__}; expected bytes, a path, or a mapping with them")
    return (Medium(value),)


def picture_name(value: Any, digits: int = 12) -> str:
    """What tells the image in a cell from others in the names of items: the first digits of its hash."""
    source = media[0].source if (media := picture(value)) else b""
    return hashlib.sha256(source if isinstance(source, bytes) else source.encode()).hexdigest()[:digits]


def clip(row: Row, column: str = "video") -> Medium:
    """The video of a row, from its `start` to its `end` where the row has them."""
    return Medium(str(row[column]), "video", _seconds(row.get("start")), _seconds(row.get("end")))


def choice_text(question: str, options: Sequence[str], *, hint: str = "", ask: str = LETTER_ONLY) -> str:
    """A question as multiple-choice suites ask it: hint, question, options as `A. text` lines, what to answer with."""
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join(line for line in [hint, question, *lines, ask] if line)


def choice_answer(options: Sequence[str], right: int) -> dict[str, Any]:
    """The answer of a choice by the index of the right option."""
    if not 0 <= right < len(options):
        raise InputError(f"the right option {right} is none of the {len(options)} options {list(options)}")
    return {"choice": ascii_uppercase[right], "options": list(options)}


def letter_index(letter: Any) -> int:
    """The index that a letter (`B`, `(B)`, `b`) stands for.

    >>> letter_index("(B)")
    1
    """
    plain = str(letter).strip().strip("().").upper()
    if len(plain) != 1 or plain not in ascii_uppercase:
        raise InputError(f"the answer {letter!r} is no option letter")
    return ascii_uppercase.index(plain)


def listed(value: Any) -> list[Any]:
    """A list in a cell: one, an array, or the text of one in JSON or Python.

    >>> listed("['a', 'b']"), listed('["a"]'), listed(("a",))
    (['a', 'b'], ['a'], ['a'])
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise InputError(f"expected a list, got the text {value[:80]!r}") from None
    if not isinstance(value, list | tuple):
        raise InputError(f"expected a list, got {value!r:.80}")
    return list(value)


def _seconds(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)
