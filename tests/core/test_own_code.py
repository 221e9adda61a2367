"""Code of somebody's own is found in the working folder, whatever its name, and nothing else there is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = {
    "rewards.py": "def brevity(rollouts):\n    return [0.25 for _ in rollouts]\n",
    "eval/__init__.py": "",
    "eval/metrics.py": "from . import half\n\n\ndef f1(rollouts):\n    return [half.VALUE for _ in rollouts]\n",
    "eval/half.py": "VALUE = 0.5\n",
    "mine.py": "def late(rollouts):\n    import other\n\n    return [other.VALUE for _ in rollouts]\n",
    "other.py": "VALUE = 0.75\n",
    "clash.py": "from rewards import brevity\n",
    "simplejpeg.py": "print('a stranger was run')\n",
    "rollouts.jsonl": '{"completion": "abc", "answer": "x"}\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def scored(folder: Path, suite: str, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmrl", "reward", "score", suite, "rollouts.jsonl"]
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", [str(ROOT), f".{os.pathsep}{ROOT}"], ids=["installed", "PYTHONPATH=."])
def test_modules_with_the_names_of_our_packages_are_told_apart(folder: Path, path: str) -> None:
    (folder / "suite.yaml").write_text(
        'rewards: {a: {fn: "rewards:brevity", deadline: 60}, b: {fn: "eval.metrics:f1"}, c: {fn: "mine:late"}}'
    )  # the deadline: a process of its own
    run = scored(folder, "suite.yaml", path)
    assert run.returncode == 0, run.stderr
    assert [line.split("│")[3].strip() for line in run.stdout.splitlines() if "│" in line] == [
        "0.250",
        "0.500",
        "0.750",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rewards:nope", "module './rewards' has no attribute 'nope'"),
        ("clash:brevity", "rewards.py has the name of a package of mmrl: rename it"),
    ],
)
def test_a_name_that_leads_to_the_other_module_says_which_file_it_is(folder: Path, name: str, message: str) -> None:
    run = scored(folder, name)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert message in run.stderr


def test_files_named_like_packages_are_not_run_unless_code_of_the_folder_is_asked_for(folder: Path) -> None:
    code = "import sys; sys.argv = ['mmrl', 'data', 'show', 'nowhere']; import mmrl.cli; mmrl.cli.main()"
    for command in (["-m", "mmrl", "data", "show", "nowhere"], ["-c", code]):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)
        assert "a stranger was run" not in run.stdout
        assert run.returncode == 2


STRANGERS = ("simplejpeg", "bottleneck", "numexpr", "olefile", "brotli", "pickle", "stranger")
SOURCE = """
import pyarrow.parquet, PIL.Image  # which import what they find
from data_engine.operator import drops
from data_engine.schema import Sample, user_prompt


def rows(*, n: int):
    for number in range(n):
        yield Sample("", "rows", "number", user_prompt(str(number)), {"number": float(number)})


@drops
def kept(sample):
    import pandas  # which looks for others, too
    import other  # of the folder, where `mark` shows who was run

    return None if other.VALUE == 0.75 else "another"
"""


def test_code_of_the_folder_opens_it_to_nobody_else(folder: Path) -> None:
    """A build with a source and an operator of the folder, in worker processes, among files named like packages."""
    for name in STRANGERS:
        (folder / f"{name}.py").write_text("import pathlib; pathlib.Path('mark').touch()\nraise ImportError")
    (folder / "lab").mkdir()
    (folder / "lab" / "made.py").write_text(SOURCE)
    recipe = 'sources: [{fn: "lab.made:rows", args: {n: 3}}]\noperators: [{fn: validate}, {fn: "lab.made:kept"}]'
    (folder / "recipe.yaml").write_text(recipe)
    command = [sys.executable, "-m", "mmrl", "data", "build", "recipe.yaml", "--workers", "1", "--out", "out"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "out: 3 samples" in run.stdout
    assert not (folder / "mark").exists()


def test_our_packages_are_refused_after_strangers_of_the_same_name(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", "import rewards, mmrl"], cwd=folder, env=env, capture_output=True, text=True
    )
    assert f"ImportError: {folder / 'rewards.py'} was imported as rewards, and a package of mmrl" in run.stderr
