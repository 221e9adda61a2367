"""The version of an operator or a source: a hash of the code that decides its results.

No version number has to be increased by hand. The hash covers the text of the function's module and of all modules that
it imports from this project or from the function's own package, so an edit elsewhere keeps cached results. A
"module:attribute" in the code counts as an import, because registries are written like that. Other packages count by
their version, if they may change the bytes.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from data_engine.seeding import digest
from mmrl.core.files import sha256_of

PACKAGES = ("mmrl-stack", "pyarrow", "pillow", "av", "decord", "numpy", "rensa", "py3langid")  # may change the bytes
OURS = ("data_engine", "rewards", "mmrl", "eval")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@functools.cache
def version_of(target: str) -> str:
    """The version of the function at "module:function"."""
    files = sorted(_reached(target.partition(":")[0]).items())
    return digest(target, *(f"{name} {sha256_of(file)}" for name, file in files), *sorted(package_versions().items()))


def package_versions() -> dict[str, str]:
    """The versions of the installed packages of PACKAGES."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # decord has no wheel on some machines
            versions[package] = version(package)
    return versions


def _reached(module: str) -> dict[str, Path]:
    """module -> file for `module` and all that it imports, directly or not, from OURS or its own package."""
    packages = {*OURS, module.partition(".")[0]}
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name.partition(".")[0] in packages and name not in files and (file := _file(name)):
            files[name] = file
            waiting += _imports(name, file)
    return files


@functools.cache
def _file(name: str) -> Path | None:
    """The file of a module, without importing it; None if it does not exist."""
    top, *rest = name.split(".")
    with contextlib.suppress(ValueError):  # of __main__, which has no spec
        spec = find_spec(top)
        if spec and not rest and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            place = Path(folder, *rest)
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    return file
    return None


@functools.cache
def _imports(name: str, file: Path) -> list[str]:
    """The names in a module's imports and in texts of the form "module:attribute"."""
    return sorted(set(_named(name, file)))


def _named(name: str, file: Path) -> Iterator[str]:
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and TARGET.fullmatch(node.value):
            yield node.value.partition(":")[0]
