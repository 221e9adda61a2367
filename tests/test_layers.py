"""The structure of the packages: imports go down only and in no circle, and folders stay small.

mmrl.core < rewards < data_engine < mmrl.model < mmrl.tools < mmrl.engine < eval < the rest of mmrl < the commands. An
import inside a function and a module that is named in a string ("package.module:attribute") count as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mmrl", "rewards", "data_engine", "eval")
LAYERS = (
    "mmrl.core",
    "rewards",
    "data_engine",
    "mmrl.model",
    "mmrl.tools",
    "mmrl.engine",
    "eval",
    "mmrl",
    "mmrl.commands",
)  # from the bottom up
COMMANDS = {"mmrl.cli", "mmrl.__main__", "data_engine.__main__", "eval.__main__"}  # entry points: commands, too
NAMED = re.compile(
    rf"(?<![\w.])(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?=:\w|$|; )"
)  # "package.module:attribute" and the like
BUILT = re.compile(rf"(?:{'|'.join(PACKAGES)})[.:][\w.:]*\*[\w.:*]*")  # f"package.{module}:attribute"
MAX_MODULES = 20  # in a folder


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages and its file."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def layer_of(module: str) -> int:
    """The place in LAYERS of the longest prefix of `module`."""
    if module in COMMANDS:
        return len(LAYERS) - 1
    return max((len(layer), LAYERS.index(layer)) for layer in LAYERS if f"{module}.".startswith(f"{layer}."))[1]


def module_in(dotted: str) -> str | None:
    """The module that `dotted` names, or in which the thing that it names lies."""
    parts = dotted.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in modules()), None)


def strings(tree: ast.AST) -> Iterator[str]:
    """The text of every string and f-string of `tree` but for docstrings; a placeholder becomes `*`."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    spoken = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | spoken:
            yield node.value


def imported(text: str) -> set[str]:
    """The modules of the packages that a source text imports, at its head, in a function, or by name in a string."""
    tree, names = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for value in strings(tree):
        names |= {value.partition("*")[0].rstrip(".:")} if BUILT.fullmatch(value) else set(NAMED.findall(value))
    return {module for name in names if (module := module_in(name)) is not None}


@cache
def graph() -> dict[str, set[str]]:
    """Every module, with its imports of the packages."""
    return {module: imported(file.read_text(encoding="utf-8")) - {module} for module, file in modules().items()}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that import each other in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(arrows.get(module, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            ring = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(ring) > 1:
                rings.append(sorted(ring))

    for module in sorted(arrows):
        if module not in index:
            visit(module)
    return rings


def test_imports_go_down_only() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if layer_of(other) > layer_of(module)
    ]
    assert not upward, "\n".join(sorted(upward))


def test_no_circle_of_imports() -> None:
    assert circles(graph()) == []


@pytest.mark.parametrize("folder", sorted({file.parent for file in modules().values()}), ids=str)
def test_a_folder_stays_small(folder: Path) -> None:
    files = [file.name for file in folder.glob("*.py") if not file.name.startswith("__")]
    assert len(files) <= MAX_MODULES, f"{folder.relative_to(ROOT)} holds {len(files)} modules; make a sub-folder"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import eval.run", {"eval.run"}),
        ("def f():\n    from rewards import registry", {"rewards.registry"}),
        ("x = 'mmrl.commands.data:app'", {"mmrl.commands.data"}),
        ("x = f'rewards.isolation.worker:{name}'", {"rewards.isolation.worker"}),
        ("x = f'eval.{name}'", {"eval"}),
        ("x = f'rewards.{name}: {error}'", set()),
        ("'''See `eval.run`.'''", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, names: set[str]) -> None:
    assert imported(text) == names


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    "code", ["import rewards", "import mmrl.cli; mmrl.cli.usage()", "import mmrl.core.config, mmrl.core.vision"]
)
def test_light_imports_load_neither_torch_nor_transformers(code: str) -> None:
    check = f"import sys; {code}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"
