"""The recipe of a dataset, and its plan: all names are resolved and all options checked before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from data_engine.cache_keys import watching
from data_engine.engine.backends import Engine, check_engine, check_runs
from data_engine.operator import Kind, Quarantined, kind_of, traits_of, without_exit
from data_engine.ops import OPERATORS
from data_engine.schema import Sample
from data_engine.seeding import digest
from data_engine.sources import SOURCES
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.registry import checked_options, resolve, target_of
from rewards.prompt_form import PromptForm

FIRST = "validate"  # the operator that probes media and gives samples their ids: all others rely on both


class SourceSpec(Config):
    """One source: a registered name or "module:function", its options, and the name of its samples."""

    fn: str
    name: str | None = None  # default: fn without its module
    args: dict[str, Any] = Field(default_factory=dict)
    limit: PositiveInt | None = None  # read no more than this many samples
    licence: str | None = None  # of samples without their own, by its name on the hub: cc-by-4.0

    @property
    def label(self) -> str:
        """The `source` of its samples."""
        return self.name or self.fn.rpartition(":")[2]


class OperatorSpec(Config):
    """One operator: a registered name or "module:function", and its options."""

    fn: str
    args: dict[str, Any] = Field(default_factory=dict)


class Recipe(Config):
    """How a dataset is made: sources, operators in order, the mix of sources, where to write."""

    sources: list[SourceSpec] = Field(min_length=1)
    operators: list[OperatorSpec] = Field(default_factory=lambda: [OperatorSpec(fn=FIRST)], min_length=1)
    mix: dict[str, NonNegativeFloat] | None = None  # source -> weight; default: every sample, in order
    seed: int = 0
    root: Path = Path()  # where relative paths of sources start; default: the current directory
    output: Path | None = None
    cache: Path | None = None  # where stages are kept for other runs; default: next to the output until it is complete
    embed: bool = False  # media inside the shards
    name: str = "dataset"  # title of the dataset's card
    prompt: PromptForm | None = None  # how training and evaluation ask, where they do not say

    def fingerprint(self) -> str:
        """A hash of the options that decide the content; the places read from and written to do not."""
        return digest(self.model_dump_json(exclude={"root", "output", "name", "cache"}))


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source with its options checked; `read` yields its items."""

    label: str
    target: str
    spec: SourceSpec
    args: dict[str, Any]
    inputs: list[str]  # the files and folders that its options name
    read: Callable[[], Iterator[Sample | Quarantined]]


@dataclass(frozen=True, slots=True)
class Stage:
    """An operator with its options checked; `target` and `args` are all that another process needs to run it."""

    name: str
    target: str
    kind: Kind
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The sources and stages of a recipe, in order."""

    sources: list[PlannedSource]
    stages: list[Stage]


def plan(recipe: Recipe, *, engine: Engine = "local", run: bool = True) -> Plan:
    """The recipe with all names resolved and all options checked; of the inputs only their existence is checked.

    An operator that the engine cannot run is an InputError. A source checks its inputs when it is called; with `run`
    false one that is not ours is imported and not called, so that a recipe of somebody else can be looked at.
    """
    check_engine(engine)
    for label, count in Counter(spec.label for spec in recipe.sources).items():
        if count > 1:
            raise InputError(f"{count} sources are called {label}; give each its own name")
    given = {"root": recipe.root.absolute(), "seed": recipe.seed}
    specs = _mixed(recipe)
    if specs[0].fn != FIRST:
        raise InputError(f"the first operator must be {FIRST}, which measures media and gives ids; got {specs[0].fn}")
    stages = [_stage(spec, given, engine) for spec in specs]
    _check_repeats(stages)
    return Plan([_source(spec, given, run) for spec in recipe.sources], stages)


def foreign(recipe: Recipe) -> list[str]:
    """The functions of a recipe that are not ours, as it names them."""
    named = {spec.fn: SOURCES for spec in recipe.sources} | {spec.fn: OPERATORS for spec in recipe.operators}
    return [name for name, registry in named.items() if name not in registry]


def _check_repeats(stages: Sequence[Stage]) -> None:
    """Raise InputError if an operator that counts rows follows a quota that repeats rows."""
    repeats = False
    for stage in stages:
        own = traits_of(resolve(stage.target, OPERATORS, "operator"))
        if repeats and own.counts:
            raise InputError(
                f"{stage.name} counts each sample once, but an operator before it repeats some; put {stage.name} "
                "before the quota, or let the quota do it (by: source), or give it no repeat"
            )
        if own.repeats:  # the last one says how often
            repeats = stage.args[own.repeats] > 1


def _mixed(recipe: Recipe) -> list[OperatorSpec]:
    """The operators with the mix: last, but before an operator that orders, because the mix shuffles."""
    mixing = _mixing(recipe)
    ordering = [spec for spec in recipe.operators if traits_of(resolve(spec.fn, OPERATORS, "operator")).orders]
    if not mixing or not ordering:
        return [*recipe.operators, *mixing]
    *others, last = recipe.operators
    if last not in ordering:
        name = ordering[-1].fn
        raise InputError(f"mix shuffles, and {name} orders; make {name} the last operator, after {last.fn}")
    return [*others, *mixing, last]


def _mixing(recipe: Recipe) -> list[OperatorSpec]:
    if recipe.mix is None:
        return []
    labels = {spec.label for spec in recipe.sources}
    for name in recipe.mix:
        if name not in labels:
            raise InputError(f"mix weighs an unknown source {name}; {nearest(name, labels)}")
    if missing := sorted(labels - recipe.mix.keys()):
        raise InputError(f"mix does not weigh {', '.join(missing)}; weigh every source, by 0 to leave it out")
    return [OperatorSpec(fn="mix", args={"weights": recipe.mix})]


def _source(spec: SourceSpec, given: Mapping[str, Any], run: bool) -> PlannedSource:
    function = resolve(spec.fn, SOURCES, "source")
    args = checked_options(function, spec.args, f"source {spec.label}", skip=0, given=given)
    try:
        with watching() as inputs, without_exit(f"source {spec.label}"):
            if run or spec.fn in SOURCES:
                function(**args)
    except InputError as error:
        raise InputError(f"source {spec.label}: {error}") from None
    target = target_of(spec.fn, SOURCES, "source")
    return PlannedSource(spec.label, target, spec, args, sorted(inputs), lambda: _read(function, args, spec.label))


def _read(function: Callable[..., Iterator[Any]], args: Mapping[str, Any], label: str) -> Iterator[Any]:
    with without_exit(f"source {label}"):
        yield from function(**args)


def _stage(spec: OperatorSpec, given: Mapping[str, Any], engine: Engine) -> Stage:
    function, target = resolve(spec.fn, OPERATORS, "operator"), target_of(spec.fn, OPERATORS, "operator")
    kind = kind_of(function)
    if kind is None:
        raise InputError(f"{spec.fn} is not an operator; put it under @drops, @each or @stream of data_engine.operator")
    name = spec.fn.rpartition(":")[2]
    check_runs(engine, name, target, kind, function)
    return Stage(name, target, kind, checked_options(function, spec.args, f"operator {name}", given=given))
