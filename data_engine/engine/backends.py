"""What runs the per-sample stages, and what each engine cannot run: said when a recipe is planned, before any work."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, get_args

from data_engine.operator import Kind, engines_of
from mmrl.core.config import InputError

Engine = Literal["local", "ray"]


def check_engine(engine: Engine) -> None:
    """Refuse an engine that is not there."""
    if engine not in get_args(Engine):
        raise InputError(f"unknown engine {engine!r}; known: {', '.join(get_args(Engine))}")
    if engine == "ray" and find_spec("ray") is None:
        raise InputError("the engine ray needs the package ray: pip install 'mmrl-stack[ray]', or use --engine local")


def check_runs(engine: Engine, name: str, target: str, kind: Kind, function: Callable[..., Any]) -> None:
    """Refuse an operator that the engine cannot run."""
    if target.startswith("__main__:"):
        raise InputError(f"operator {name} stands in the main program, where other processes cannot find it; move it")
    if kind != "stream" and (inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function)):
        what = "a generator" if inspect.isgeneratorfunction(function) else "asynchronous"
        raise InputError(f"operator {name} is {what}, but under @{kind}, which takes and gives one sample; see @stream")
    if engine not in engines_of(function):
        able = ", ".join(engines_of(function))
        raise InputError(f"operator {name} does not run on the engine {engine}, but on {able}; choose --engine {able}")
