"""Code that a config names as "module:function" and that is not ours: what may be named, and word of what is run."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrl.core.errors import InputError
from mmrl.core.own_code import OURS

logger = logging.getLogger(__name__)

RULES = ("rewards", "eval")  # our own packages that hold rules; those of benchmarks are in no registry

_said: set[str] = set()


def check_foreign(name: str, function: Callable[..., Any], kind: str) -> None:
    """InputError for a function of Python itself; for another one, a line in the log on its first use.

    A config of somebody else may name anything that can be imported: `os:remove` is no reward, but would be called. A
    source is called with the options of the config alone, so `pandas:read_pickle` would run what a file says. Of the
    packages that are installed only those are sources that import ours.
    """
    made = inspect.isfunction(function) or inspect.isclass(function)
    modules = {name.partition(":")[0], function.__module__ if made else ""}
    if inspect.isbuiltin(function) or any(module.partition(".")[0] in sys.stdlib_module_names for module in modules):
        if kind == "operator":  # those are declared, and refused for lack of that
            return
        raise InputError(f"{kind} {name!r} is a part of Python; name a function that was written as a {kind}")
    if kind == "source" and _is_installed(name, function) and not _knows_us(name, function):
        right = "write a function of your own that yields Samples, in a module beside the config, and call it there"
        raise InputError(f"source {name!r} is of an installed package that knows nothing of mmrl; {right}")
    if kind == "reward" and made and function.__module__.partition(".")[0] in RULES:
        return
    if name not in _said:
        _said.add(name)
        logger.warning("runs code of %s (%s)", name, _file_of(function))


def _is_installed(name: str, function: Callable[..., Any]) -> bool:
    """Whether a function, or the module that a config names for it, lies among the installed packages."""
    named = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None) or ""
    return any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in (named, _file_of(function)))


def _knows_us(name: str, function: Callable[..., Any]) -> bool:
    """Whether the module of a function, or the one that a config names for it, has imported something of ours."""
    modules = (sys.modules.get(module) for module in (name.partition(":")[0], getattr(function, "__module__", "")))
    held = (value for module in modules if module for value in vars(module).values())
    names = (getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in held)
    return any(str(own).partition(".")[0] in OURS for own in names)


def _file_of(function: Callable[..., Any]) -> str:
    for found in (function, type(function)):  # an object that can be called lies where its class does
        with contextlib.suppress(TypeError):
            return inspect.getsourcefile(inspect.unwrap(found)) or "?"
    return "?"
