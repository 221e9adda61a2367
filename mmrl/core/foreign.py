"""Code that a config names as "module:function" and that is not ours: what may be named, and word of what is run."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmrl.core.errors import InputError

logger = logging.getLogger(__name__)

_said: set[str] = set()


def check_foreign(name: str, function: Callable[..., Any], kind: str) -> None:
    """InputError for a function of Python itself; for another one, a line in the log on its first use.

    A config of somebody else may name anything that can be imported: `os:remove` is no reward, but would be called.
    """
    made = inspect.isfunction(function) or inspect.isclass(function)
    modules = {name.partition(":")[0], function.__module__ if made else ""}
    if inspect.isbuiltin(function) or any(module.partition(".")[0] in sys.stdlib_module_names for module in modules):
        if kind == "operator":  # those are declared, and refused for lack of that
            return
        raise InputError(f"{kind} {name!r} is a part of Python; name a function that was written as a {kind}")
    if name not in _said:
        _said.add(name)
        logger.warning("runs code of %s (%s)", name, _file_of(function))


def _file_of(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or "?"
    except TypeError:  # an object that can be called
        return inspect.getsourcefile(type(function)) or "?"
