"""Strict typed configs: a YAML file plus `key=value` overrides becomes a frozen pydantic model."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class InputError(ValueError):
    """A user's input is wrong; the message names the key, the value and a right one."""


class RunError(RuntimeError):
    """A run cannot continue, though what the user typed is right; the message says why and what to do."""


class Config(BaseModel):
    """Base of every config: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load(schema: type[ConfigT], path: str | Path | None = None, overrides: Sequence[str] | None = None) -> ConfigT:
    """`schema` filled from the YAML file at `path`, then from `a.b=value` overrides (values are YAML).

    A file may start from another one with `extends: other.yaml` (relative to itself), or from several, the later ones
    laid over the earlier; its own keys win.
    """
    values = read_yaml(Path(path)) if path is not None else {}
    for override in overrides or ():
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"override {override!r} is not of the form key=value")
        _set(values, key.strip().split("."), _parse(text, where=f"override {override!r}"))
    return validate(schema, values, where=str(path) if path is not None else schema.__name__)


def validate(schema: type[ConfigT], values: Mapping[str, Any], *, where: str) -> ConfigT:
    """`schema` filled from `values`; every fault is listed in one InputError."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_explain(schema, fault) for fault in error.errors()]
        raise InputError(f"{where}: " + "\n".join(lines)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the closest known one, or all of them.

    >>> nearest("weigth", ["weight", "fn"])
    'did you mean weight? (known: fn, weight)'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listing = f"known: {', '.join(names)}"
    return f"did you mean {close[0]}? ({listing})" if close else listing


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with `extends` resolved. Only plain YAML: tags that build objects are refused."""
    if not path.is_file():
        raise InputError(f"no config file at {path}")
    values = _parse(path.read_text(encoding="utf-8"), where=str(path)) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    parents = values.pop("extends", None) or []
    listed = parents if isinstance(parents, list) else [parents]
    if not all(isinstance(parent, str) for parent in listed):
        raise InputError(f"{path}: extends is the path of a config, or a list of paths, got {parents!r}")
    return functools.reduce(merge, [*(read_yaml(path.parent / parent) for parent in listed), values])


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` laid over it, mapping by mapping.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_UniqueKeyLoader.add_implicit_resolver(  # YAML 1.1 reads 3e-4 as text
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, *, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {error}") from None


def _set(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        below = values.get(key)
        if below is not None and not isinstance(below, dict):
            raise InputError(f"override {'.'.join(keys)}: {key} is {below!r}, not a mapping")
        values[key] = values = dict(below or {})  # a copy: a YAML alias is the same mapping in another place
    values[last] = value


def _explain(schema: type[BaseModel], fault: Any) -> str:
    loc = [str(part) for part in fault["loc"]]
    key = ".".join(loc)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return f"unknown key {key} (value {fault['input']!r}); {nearest(loc[-1], _fields_at(schema, loc[:-1]))}"
    if fault["type"] == "missing":
        return f"missing key {key}"
    return f"{key}: {fault['msg']} (got {fault['input']!r})"


def _fields_at(schema: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """The keys that `schema` knows at `loc`; steps that are list indices or mapping keys are looked through."""
    at: Any = schema
    for step in loc:
        at = next((known[step] for known in _models(at) if step in known), at)
    return [name for known in _models(at) for name in known]


def _models(annotation: Any) -> Iterable[dict[str, Any]]:
    """The fields and their types of each model and dataclass in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield {name: field.annotation for name, field in annotation.model_fields.items()}
    elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield {field.name: field.type for field in dataclasses.fields(annotation)}
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _models(argument)
