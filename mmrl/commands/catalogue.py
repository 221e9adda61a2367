"""What there is by name, for `list` and `show`: a line for each entry of a registry, and one entry in full."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrl.core.config import InputError, nearest
from mmrl.core.registry import options_of
from rewards.base import Reward

_MODULE = re.compile(r"\b(?:typing|rewards|mmrl|data_engine|eval|collections\.abc|pathlib)\.(?:\w+\.)*")
_LIMITS = re.compile(r"typing\.Annotated\[([\w.]+), FieldInfo\(.*?\]\)\]")

Registry = Mapping[str, Callable[..., Any]]


def print_list(kind: str, about: Iterable[tuple[str, str]]) -> None:
    """Print the names of a kind, in order, with what each is."""
    table = Table(kind, "what it is", box=None)
    for name, text in sorted(about):
        table.add_row(Text(name, no_wrap=True), Text(text))
    Console().print(table)


def first_lines(functions: Registry) -> list[tuple[str, str]]:
    """Each name with the first sentence of its docstring."""
    return [(name, description(function).split("\n\n")[0].replace("\n", " ")) for name, function in functions.items()]


def entry(name: str, function: Callable[..., Any], *, skip: int = 1) -> str:
    """A function in full: its options with their types and defaults, and its docstring."""
    options = [f"  {option}: {kind}{default}" for option, kind, default in _options(function, skip)]
    return "\n".join([name, *options, "", description(function)])


def found(name: str, kinds: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """The kinds that have an entry of that name, with the entry; InputError if none has."""
    having = [(kind, entries[name]) for kind, entries in kinds.items() if name in entries]
    if not having:
        known = {known for entries in kinds.values() for known in entries}
        raise InputError(f"no {' and no '.join(kinds)} {name!r}; {nearest(name, known)}")
    return having


def description(function: Any) -> str:
    """The docstring of a function."""
    return inspect.getdoc(function) or "(no description)"


def _options(function: Any, skip: int) -> Iterator[tuple[str, str, str]]:
    """The name, type and default of every option."""
    for name, field in options_of(function, skip=skip).model_fields.items():
        default = "" if field.is_required() else f" = {field.default!r}"
        kind = inspect.formatannotation(field.annotation).replace(inspect.formatannotation(Reward), "reward")
        yield name, _MODULE.sub("", _LIMITS.sub(r"\1", kind)), default
