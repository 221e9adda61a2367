"""Functions and configs in Markdown: what their docstrings, signatures and comments already say."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmrl.core.registry import options_of

GIVEN = {"root", "seed", "judge"}  # options that the caller fills in: the recipe, or the suite
WORDS = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
NAMES = {
    **{str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Any: "anything"},
    collections.abc.Callable: "a reward, as `{fn: ..., args: ...}`",
}
COMMENT = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells keep to one line, and bars in them stay bars.

    >>> print(table(["a"], [["x | `y | z`"]]).splitlines()[-1])
    | x \\| `y | z` |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line; a bar in code needs no backslash."""
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or "\\|", text.replace("\n", " "))


def first_sentence(text: str) -> str:
    """The first sentence of a docstring.

    >>> first_sentence("The area, e.g. of a box. Units are pixels.")
    'The area, e.g. of a box.'
    """
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.]{4}\.) (?=[A-Z`])", paragraph)[0]


def prose(text: str) -> str:
    """A docstring as Markdown: the examples at its end become a code block."""
    text, _, example = text.partition(">>>")
    return text.strip() + (f"\n\n```python\n>>>{example.rstrip()}\n```" if example else "")


def options(function: Callable[..., Any], *, skip: int = 1, given: Collection[str] = GIVEN) -> str:
    """The options of a function after its first `skip` parameters; `given` are names that the caller fills in."""
    fields = options_of(function, skip=skip).model_fields
    rows = [(f"`{name}`", _type_of(field), _default_of(field)) for name, field in fields.items() if name not in given]
    return table(("option", "value", "default"), rows) if rows else ""


def config(model: type[BaseModel]) -> str:
    """A config: its docstring, and a table of its keys with the comments that stand behind them."""
    comments = dict(COMMENT.findall(inspect.getsource(model)))
    rows = [
        (f"`{key}`", _type_of(field), _default_of(field), comments.get(key, ""))
        for key, field in model.model_fields.items()
    ]
    return prose(inspect.getdoc(model) or "") + "\n\n" + table(("key", "value", "default", "note"), rows)


def configs_below(*models: type[BaseModel]) -> list[type[BaseModel]]:
    """`models` and every config that their keys hold, each once, in the order in which they are met."""
    seen: dict[type[BaseModel], None] = {}

    def visit(model: type[BaseModel]) -> None:
        if model not in seen:
            seen[model] = None
            for field in model.model_fields.values():
                for inner in _models(field.annotation):
                    visit(inner)

    for model in models:
        visit(model)
    return list(seen)


def type_text(annotation: Any) -> str:
    """A type in words: `text`, `whole number from 1`, one of some values, a list of them, a config.

    >>> type_text(float | None), type_text(Literal["a", "b"])
    ('number or none', '`a`, `b`')
    """
    bounds = _bounds(annotation)
    return _plain(_bare(annotation)) + (f" {bounds}" if bounds else "")


def default_text(value: Any) -> str:
    """A default as YAML has it; empty where there is none, so that the option must be given."""
    if value is PydanticUndefined:
        return "(needed)"
    match value:
        case None:
            return "none"
        case BaseModel():
            return "its defaults"
        case Enum():
            return f"`{value.value}`"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple() | list() | dict() if not value:
            return "empty"
        case tuple() | list() | dict():
            return ", ".join(map(default_text, value))
        case PurePath() | str() | int() | float():
            return f"`{value}`" if str(value) else "empty"
        case _:
            return f"`{value!r}`"


def _type_of(field: FieldInfo) -> str:
    if field.annotation is Any:
        return ""
    return type_text(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


def _default_of(field: FieldInfo) -> str:
    return (
        "empty" if field.default_factory in (dict, list) else default_text(field.get_default(call_default_factory=True))
    )


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _plain(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            sorted(("none" if one is type(None) else type_text(one) for one in inner), key="none".__eq__)
        )
    if origin in (list, tuple, set, collections.abc.Sequence):
        return "list of " + type_text(inner[0])
    if origin in (dict, collections.abc.Mapping):
        return f"mapping of {type_text(inner[0])} to {type_text(inner[1])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](configs.md#{kind.__name__.lower()})"
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return "path"
    return NAMES.get(origin or kind, f"`{getattr(kind, '__name__', kind)}`")


def _bounds(annotation: Any) -> str:
    if typing.get_origin(annotation) is not Annotated or _bare(annotation) not in (int, float):
        return ""
    schema = TypeAdapter(annotation).json_schema()
    return ", ".join(f"{word} {schema[key]:g}" for key, word in WORDS.items() if key in schema)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)
