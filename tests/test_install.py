"""The import is this project, and the command exists."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from mmrl.cli import VERBS


@pytest.mark.parametrize("package", ["mmrl", "rewards", "data_engine", "eval"])
def test_no_other_distribution_provides_our_packages(package: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, [])
    assert set(owners) <= {"mmrl-stack"}


def test_decord2_is_not_installed_beside_decord() -> None:
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    assert not {"decord", "decord2"} <= installed


def test_help_names_every_verb() -> None:
    text = subprocess.check_output([sys.executable, "-m", "mmrl", "--help"], text=True)
    assert all(verb in text for verb in VERBS)


def test_an_unknown_verb_is_an_error_that_names_the_nearest() -> None:
    run = subprocess.run([sys.executable, "-m", "mmrl", "trian"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("mmrl: unknown verb 'trian'; did you mean train? (known: ask, data, demo, eval,")


def test_the_version_is_that_of_the_package() -> None:
    text = subprocess.check_output([sys.executable, "-m", "mmrl", "--version"], text=True)
    assert text == f"mmrl {importlib.metadata.version('mmrl-stack')}\n"


@pytest.mark.parametrize(("verb", "package", "extra"), [("train", "torch", "train"), ("demo", "torch", "demo")])
def test_a_missing_package_is_named_with_its_extra(verb: str, package: str, extra: str) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; sys.argv = ['mmrl', {verb!r}, *sys.argv[1:]]"
    program = [sys.executable, "-c", f"{without}; from mmrl.cli import main; main()", "nowhere.yaml"]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    expected = f"mmrl {verb}: the package {package} is missing; pip install 'mmrl-stack[{extra}]'\n"
    assert (run.returncode, run.stderr) == (2, expected)


def test_every_console_script_is_declared() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="mmrl")
    assert [script.value for script in scripts] == ["mmrl.cli:main"]
    assert Path(__file__).parent.parent.joinpath("pyproject.toml").exists()


@pytest.mark.parametrize(
    ("verb", "words", "extra"),
    [("train", "list", "train"), ("data", "list", "data"), ("eval", "list", "train"), ("view", ".", "data")],
)
def test_a_package_that_is_met_deep_inside_is_named_with_the_extra_of_the_verb(
    verb: str, words: str, extra: str
) -> None:
    without = f"import sys; sys.modules['av'] = None; sys.argv = ['mmrl', {verb!r}, {words!r}]"
    program = [sys.executable, "-c", f"{without}; from mmrl.cli import main; main()"]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (2, f"mmrl {verb}: videos are read with PyAV: {install(extra)}")


def install(extra: str) -> str:
    return f"pip install 'mmrl-stack[{extra}]'\n"
