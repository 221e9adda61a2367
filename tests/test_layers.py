"""Imports go down only: mmrl.config, mmrl.vision < rewards < data_engine < eval < the rest of mmrl."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["foundation", "rewards", "data_engine", "eval", "mmrl"]
FOUNDATION = {"mmrl", "mmrl.config", "mmrl.vision", "mmrl.boxes", "mmrl.files", "mmrl.pages"}


def layer_of(module: str) -> str | None:
    package = module.split(".")[0]
    if module in FOUNDATION:
        return "foundation"
    return package if package in LAYERS else None


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", ["mmrl", "rewards", "data_engine", "eval"])
def test_imports_go_down_only(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        here = layer_of(module)
        assert here is not None
        for name in imported(file):
            below = layer_of(name)
            if below is not None and below != here:
                assert LAYERS.index(below) < LAYERS.index(here), f"{module} imports {name}"


@pytest.mark.parametrize(
    "code", ["import rewards", "import mmrl.cli; mmrl.cli.usage()", "import mmrl.config, mmrl.vision"]
)
def test_light_imports_load_neither_torch_nor_transformers(code: str) -> None:
    check = f"import sys; {code}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"
