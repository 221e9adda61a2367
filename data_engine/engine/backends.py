"""The engines that run per-sample stages, and which operators they can run: checked before any work starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, get_args

from data_engine.operator import Kind, engines_of
from mmrl.core.config import InputError

Engine = Literal["local", "ray"]


def check_engine(engine: Engine) -> None:
    """Raise InputError for an engine that is unknown or not installed."""
    if engine not in get_args(Engine):
        raise InputError(f"unknown engine {engine!r}; known: {', '.join(get_args(Engine))}")
    if engine == "ray" and find_spec("ray") is None:
        raise InputError("the engine ray needs the package ray: pip install 'mmrl-stack[ray]', or use --engine local")


def check_runs(engine: Engine, name: str, target: str, kind: Kind, function: Callable[..., Any]) -> None:
    """Raise InputError for an operator that the engine cannot run."""
    if target.startswith("__main__:"):
        raise InputError(f"operator {name} is defined in __main__, which workers cannot import; put it in a module")
    if kind != "stream" and (inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function)):
        form = "a generator" if inspect.isgeneratorfunction(function) else "asynchronous"
        raise InputError(
            f"operator {name} is {form}, but @{kind} is for functions that return one outcome; use @stream"
        )
    if engine not in engines_of(function):
        able = ", ".join(engines_of(function))
        raise InputError(f"operator {name} does not run on the engine {engine}, but on {able}; choose --engine {able}")
