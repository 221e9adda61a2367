"""Published benchmarks: their rows, the questions about a row, their scorers, their numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from eval.records import Record
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.media.item import MediaKind
from mmrl.core.vision import CoordinateSpace

Row = Mapping[str, Any]
Metrics = dict[str, float | None]
Scorers = Mapping[str, Mapping[str, Any]]

JUDGE = "judge"  # the judge that benchmarks ask if a run has several
EDITS = "(edits)"  # the column of a row with the directory of edited images


class BenchmarkFiles(Config):
    """The files of a benchmark: `path`, a file or directory in its official layout, or `revision`, a commit of its
    hub dataset in the local cache.

    `limit` caps the questions, and `split` replaces the usual one. Relative media paths start at `media_root`, by
    default the directory of the file. `edits` is the directory of edited images, for benchmarks that score them.
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

    A `made` medium was made by a model: it may be missing or damaged, and is then left out.
    """

    source: bytes | str
    kind: MediaKind = "image"
    start: float | None = None
    end: float | None = None
    made: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark. A limit keeps or drops all items of a `group`.

    `named`: the rows have no ids, and this `id` is made from the question. Then a row may occur twice.
    """

    id: str
    task: str
    text: str
    answer: dict[str, Any]
    media: tuple[Medium, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A published benchmark.

    `about` describes the question and the headline number in a sentence. `hub` is its dataset on the Hugging Face
    hub, whose files have the `columns`. `items` makes the questions of a row, `metrics` the numbers of all records.
    `scorers` holds the default scorer (mostly `accuracy`) and, with weight 0, its variants by name: all of them score
    every answer, which shows the effect of a variant. `judged` holds those that need a judge, under names that begin
    with `judge_`; a benchmark without `scorers` needs a judge. `rows` and `size` are the published numbers of rows and
    of items; other numbers are a warning. `read` is for layouts of several files, an empty `split` for all files of a
    directory. `folders` are those of the hub's dataset that hold this benchmark, where it holds others too. With
    `edits` the edited images of a model are scored. `needs` names a requirement that is missing here. `known_by` is the
    metric that papers give for the benchmark.
    """

    name: str
    about: str
    hub: str
    columns: tuple[str, ...]
    items: Callable[[Row, CoordinateSpace], Iterable[Item]]
    scorers: Scorers
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
    known_by: str = "accuracy"

    @property
    def headline(self) -> str:
        """The scorer that decides whether there are numbers at all."""
        return next(iter({**self.scorers, **self.judged}))

    def scorers_with(self, judges: Collection[str], args: Scorers | None = None) -> dict[str, dict[str, Any]]:
        """The scorers of a run with these judges. The judge called `judge`, or the only one, is asked.

        `args` are more options of scorers by their names.
        """
        scorers = self._scorers_with(judges)
        for name, options in (args or {}).items():
            if name not in scorers:
                raise InputError(
                    f"benchmark {self.name} has no scorer {name!r} to give options; {nearest(name, scorers)}"
                )
            scorers[name]["args"] = {**scorers[name]["args"], **options}
        return scorers

    def _scorers_with(self, judges: Collection[str]) -> dict[str, dict[str, Any]]:
        if not self.judged or (not judges and self.scorers):
            return {name: dict(spec) for name, spec in self.scorers.items()}
        judge = JUDGE if JUDGE in judges else next(iter(judges), None)
        if judge is None or (judge != JUDGE and len(judges) > 1):
            had = f"the run has {', '.join(judges)}" if judges else "the run has no judge"
            raise InputError(f"benchmark {self.name} asks a judge, but {had}; put one called {JUDGE!r} under `judges:`")
        asked = {name: {**spec, "args": {**spec["args"], "judge": judge}} for name, spec in self.judged.items()}
        return {name: dict(spec) for name, spec in {**self.scorers, **asked}.items()}


def variant(fn: str, **args: Any) -> dict[str, Any]:
    """An additional scorer, which does not count in the total of a record."""
    return {"fn": fn, "args": args, "weight": 0.0}


def default(fn: str, **args: Any) -> dict[str, Any]:
    """The default scorer of a benchmark."""
    return {"fn": fn, "args": args}
