"""Code that a config names as "module:attribute": where it lies, and the path on which it is looked for.

Modules of the working folder are found by the code in it alone, and by a config that names them. Otherwise a folder
with a `brotli.py` in it, downloaded for its pictures, would run that file with any command: libraries import such
packages where they find them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, ClassVar

from mmrl.core.beside import BESIDE, HOME

OURS = ("mmrl", *BESIDE)
INSIDE = "mmrl.core.working_folder."  # prefix of modules there that have the name of one of ours


def leave_working_folder() -> None:
    """Take the working folder from the head of the path, where `python -m` puts it."""
    if sys.path and sys.path[0] in ("", os.getcwd()) and not _at_home():
        del sys.path[0]


def located(target: str) -> str:
    """ "module:attribute" as it can be imported from here on, in this process and in those that it starts.

    A module of the working folder is found. It wins over a module of ours that has the same name.
    """
    module, _, attribute = target.partition(":")
    package = module.partition(".")[0]
    if _at_home() or module.startswith(INSIDE):
        return target
    if package in OURS:
        return f"{INSIDE}{module}:{attribute}" if _in_folder(module) else target
    find_here({package})
    return target


class Here:
    """Finds modules in the working folder, after all others, for the code that lies there and for a config."""

    named: ClassVar[set[str]] = set()  # packages that a config names
    found: ClassVar[set[str]] = set()  # packages that were found there

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module of the working folder, if a config or code of that folder asks for it."""
        asking = "" if name in cls.named else _asking()
        if path is not None or not (
            name in cls.named or asking.startswith(INSIDE) or asking.partition(".")[0] in cls.found
        ):
            return None
        spec = PathFinder.find_spec(name, [os.getcwd()])
        if spec:
            cls.found.add(name)
        return spec


def find_here(packages: Iterable[str]) -> None:
    """Let these packages be found in the working folder, in this process."""
    Here.named.update(packages)
    if Here not in sys.meta_path:
        sys.meta_path.append(Here)  # pyright: ignore[reportArgumentType]


def _asking() -> str:
    """The module that is importing something."""
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "importlib":
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def cause_of(error: Exception) -> str:
    """What an import says, with a hint if it found a package of ours where somebody's own was meant."""
    text = str(error).replace(INSIDE, "./")
    package = (getattr(error, "name", None) or "").partition(".")[0]
    found = PathFinder.find_spec(package, [os.getcwd()]) if package in OURS and not _at_home() else None
    place = found and (found.origin or Path.cwd() / package)
    return f"{text}; {place} has the name of a package of mmrl: rename it" if place else text


def _at_home() -> bool:
    return Path.cwd() == HOME


def _in_folder(module: str) -> bool:
    """Whether the working folder has the module; its parents are packages with or without an `__init__.py`."""
    place = Path(*module.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
