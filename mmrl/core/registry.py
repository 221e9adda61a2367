"""Registries: names that stand for functions, and options that are checked against a function's signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from mmrl.core.config import Config, InputError, nearest, validate
from mmrl.core.foreign import check_foreign
from mmrl.core.own_code import cause_of, located


class _Options(Config):
    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())  # any type, any name


def resolve(name: str, registry: Mapping[str, str], kind: str) -> Callable[..., Any]:
    """The function behind a registered name or a "module:function"; `kind` is the word for it in messages.

    >>> resolve("join", {"join": "os.path:join"}, "operator")("a", "b")
    'a/b'
    """
    target = target_of(name, registry, kind)
    try:
        function = resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot import {kind} {name!r}: {cause_of(error)}") from error
    if not callable(function):
        raise InputError(f"{kind} {name!r} is a {type(function).__name__}, not a function")
    if target not in registry.values():
        check_foreign(name, function, kind)
    return function


def target_of(name: str, registry: Mapping[str, str], kind: str) -> str:
    """The "module:function" behind a registered name, or behind one that names code of the user's own."""
    target = registry.get(name, name)
    if ":" not in target:
        raise InputError(f"unknown {kind} {name!r}; {nearest(name, registry)}; yours is written module:function")
    return target if target in registry.values() else located(target)


def options_of(function: Callable[..., Any], *, skip: int = 1, first: Mapping[str, Any] | None = None) -> type[Config]:
    """The options of a function as a config that checks their values: all parameters after the first `skip`.

    The names in `first` become the first fields: pydantic lets a check look only at the fields before its own.
    """
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # annotations that exist for the type checker only
        parameters = inspect.signature(function).parameters
    named = [
        option
        for option in list(parameters.values())[skip:]
        if option.kind not in (option.VAR_POSITIONAL, option.VAR_KEYWORD)
    ]
    fields: dict[str, Any] = {
        option.name: (_type_of(option), ... if option.default is option.empty else option.default)
        for option in sorted(named, key=lambda option: option.name not in (first or {}))
    }
    return create_model("Options", __base__=_Options, **fields)


def checked_options(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    where: str,
    *,
    skip: int = 1,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All options of `function` with their values: from `options`, else from `given`, else the default.

    Values are checked against the annotations; InputError names the unknown option or the bad value, after `where`.
    Entries of `given` that are not options of the function are ignored.
    """
    schema = options_of(function, skip=skip, first=given)
    if options and not schema.model_fields:
        raise InputError(f"{where} takes no options, got {', '.join(map(str, options))}")
    values = {name: value for name, value in (given or {}).items() if name in schema.model_fields}
    checked: BaseModel = validate(schema, {**values, **options}, where=where)
    return {
        name: getattr(checked, name) for name in inspect.signature(function).parameters if name in schema.model_fields
    }


def _type_of(option: inspect.Parameter) -> Any:
    unknown = option.annotation is option.empty or isinstance(option.annotation, str)
    return Any if unknown else option.annotation
