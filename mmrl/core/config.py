"""Strict typed configs: a YAML file plus `key=value` overrides becomes a frozen pydantic model."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mmrl.core.errors import InputError, RunError
from mmrl.core.text import shown
from mmrl.core.yaml_values import parsed

__all__ = ["Config", "InputError", "RunError", "load", "merge", "nearest", "read_yaml", "shown", "validate"]

ConfigT = TypeVar("ConfigT", bound=BaseModel)
LISTED = 240  # letters of a list of known names


class Config(BaseModel):
    """Base of every config: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def unusual(self, names: Iterable[str]) -> list[str]:
        """Those of the keys `names` that do not have their defaults, whether or not a file names them."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]


def load(schema: type[ConfigT], path: str | Path | None = None, overrides: Sequence[str] | None = None) -> ConfigT:
    """`schema` filled from the YAML file at `path`, then from `a.b=value` overrides.

    The value of an override is YAML; where the schema wants a text, it is that text, whatever YAML would make of it.
    A file may start from another one with `extends: other.yaml` (relative to itself), or from several, the later ones
    laid over the earlier; its own keys win.
    """
    values = read_yaml(Path(path)) if path is not None else {}
    for override in overrides or ():
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"override {shown(override)} is not of the form key=value")
        keys = key.strip().split(".")
        _set(values, keys, _override(schema, keys, text, where=f"override {shown(override)}"))
    return validate(schema, values, where=str(path) if path is not None else schema.__name__)


def validate(schema: type[ConfigT], values: Mapping[str, Any], *, where: str) -> ConfigT:
    """`schema` filled from `values`; every fault is listed in one InputError."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_explain(schema, fault) for fault in error.errors()]
        raise InputError(f"{where}: {'; '.join(lines)}") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the closest known one, and all of them where they are few.

    >>> nearest("weigth", ["weight", "fn"])
    'did you mean weight? (known: fn, weight)'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    listing = f"known: {', '.join(names)}"
    if len(listing) <= LISTED:
        return f"did you mean {close[0]}? ({listing})" if close else listing
    if close:
        return f"did you mean {' or '.join(close)}? ({len(names)} are known)"
    fitting = listing[:LISTED].rpartition(", ")[0]
    return f"{fitting} and {len(names) - fitting.count(', ') - 1} more"


def read_yaml(path: Path, extending: Sequence[Path] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, with `extends` resolved. Only plain YAML: tags that build objects are refused.

    `extending` are the files that lead here by `extends`.
    """
    if not path.is_file():
        raise InputError(f"no config file at {path}")
    if path.resolve() in extending:
        raise InputError(f"{path} extends itself; extends names another file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    values = parsed(text, where=str(path)) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    parents = values.pop("extends", None) or []
    listed = parents if isinstance(parents, list) else [parents]
    if not all(isinstance(parent, str) for parent in listed):
        raise InputError(f"{path}: extends is the path of a config, or a list of paths, got {shown(parents)}")
    below = [*extending, path.resolve()]
    return functools.reduce(merge, [*(read_yaml(path.parent / parent, below) for parent in listed), values])


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` laid over it, mapping by mapping; a null takes a mapping of `base` away.

    >>> merge({"a": {"x": 1, "y": 2}, "b": {"z": 3}}, {"a": {"y": 3}, "b": None})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if value is None and isinstance(below, Mapping):
            del merged[key]
        else:
            merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _override(schema: type[BaseModel], keys: Sequence[str], text: str, *, where: str) -> Any:
    """The value of an override: as it stands where the schema wants a text, unless it is quoted or empty."""
    kinds = _kinds_at(schema, keys)
    value = parsed(text, where=where)
    if text.strip() and text.strip()[0] not in "\"'" and kinds and kinds <= {str, Path, type(None)}:
        return None if value is None and type(None) in kinds else text.strip()
    if "#" in text and "#" not in str(value):
        raise InputError(f"{where}: what follows # is a comment in YAML; put the value in quotes of its own")
    return value


def _kinds_at(schema: type[BaseModel], keys: Sequence[str]) -> set[Any]:
    """The types that a key may have."""
    *parents, last = keys
    at = next((known[last] for known in _models(_at(schema, parents)) if last in known), None)
    union = typing.get_origin(at) in (typing.Union, types.UnionType)
    return set(typing.get_args(at)) if union else {at}


def _set(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Put `value` at a.b.c; a step into a list is the number of an element, from 0."""
    *parents, last = keys
    at: Any = values
    for place, key in enumerate(parents):
        step = _step(at, key, keys)
        below = at[step] if isinstance(at, list) else at.get(key)
        if not isinstance(below, dict | list | None):
            raise InputError(
                f"override {'.'.join(keys)}: {'.'.join(keys[: place + 1])} is {shown(below)}, not a mapping"
            )
        at[step] = below = copy.copy(below or {})  # a YAML alias is the same mapping in another place
        at = below
    step = _step(at, last, keys)
    if value is None and isinstance(at, dict) and isinstance(at.get(last), dict):
        del at[last]
    else:
        at[step] = value


def _step(at: Any, key: str, keys: Sequence[str]) -> Any:
    if not isinstance(at, list):
        return key
    if not key.isdecimal() or int(key) >= len(at):
        raise InputError(f"override {'.'.join(keys)}: {key!r} is no element of a list of {len(at)}; count from 0")
    return int(key)


def _explain(schema: type[BaseModel], fault: Any) -> str:
    loc = [str(part) for part in fault["loc"]]
    key = ".".join(loc)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return f"unknown key {key} (value {shown(fault['input'])}); {nearest(loc[-1], _fields_at(schema, loc[:-1]))}"
    if fault["type"] == "missing":
        return f"missing key {key}"
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], Mapping):  # of a config as a whole: it says what
        return f"{key}: {text}" if key else text
    return f"{key}: {text} (got {shown(fault['input'])})"


def _fields_at(schema: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """The keys that `schema` knows at `loc`."""
    return [name for known in _models(_at(schema, loc)) for name in known]


def _at(schema: type[BaseModel], loc: Sequence[str]) -> Any:
    """The type at `loc`; steps that are list indices or mapping keys are looked through."""
    at: Any = schema
    for step in loc:
        at = next((known[step] for known in _models(at) if step in known), at)
    return at


def _models(annotation: Any) -> Iterable[dict[str, Any]]:
    """The fields and their types of each model and dataclass in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield {name: field.annotation for name, field in annotation.model_fields.items()}
    elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield {field.name: field.type for field in dataclasses.fields(annotation)}
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _models(argument)
