"""The first minutes with the command: help, completion, a folder to start from, a question to a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
from typer.testing import CliRunner

from mmrl.cli import VERBS
from mmrl.commands.init import CONFIGS, START
from tests.docs.pages import ROOT, commands

MMRL = [sys.executable, "-m", "mmrl"]


def ran(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([*MMRL, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `mmrl init` makes it, with its dataset built."""
    place = tmp_path_factory.mktemp("home")
    assert ran("init", "lab", folder=place).returncode == 0
    built = ran("data", "build", "data.yaml", "--workers", "1", folder=place / "lab")
    assert built.returncode == 0, built.stderr
    assert "36 samples" in built.stdout
    return place / "lab"


@pytest.mark.parametrize("verb", VERBS)
def test_h_explains_a_verb_and_its_actions(verb: str) -> None:
    app = resolve_name(VERBS[verb][0])
    result = CliRunner().invoke(app, ["-h"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    for command in app.registered_commands if len(app.registered_commands) > 1 else ():
        name = command.name or command.callback.__name__
        assert CliRunner().invoke(app, [name, "-h"]).exit_code == 0, name


def test_a_shell_completes_verbs_and_actions(tmp_path: Path) -> None:
    asked = {"_MMRL_COMPLETE": "complete_bash"}
    assert ran(folder=tmp_path, COMP_WORDS="mmrl d", COMP_CWORD="1", **asked).stdout.split() == ["data", "demo"]
    assert ran(folder=tmp_path, COMP_WORDS="mmrl eval comp", COMP_CWORD="2", **asked).stdout.split() == ["compare"]
    installed = ran("--show-completion", folder=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert installed.returncode in (0, 2), installed.stderr


def test_init_writes_what_the_wheel_holds_and_overwrites_nothing(lab: Path) -> None:
    assert {place.name for place in (CONFIGS / START).iterdir()} <= {place.name for place in lab.iterdir()}
    assert (lab / "configs" / "train" / "grpo.yaml").is_file()
    assert not (lab / "configs" / START).exists()
    again = ran("init", "lab", folder=lab.parent)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "lab has README.md, configs, data.yaml, eval.yaml, my_data" in again.stderr


def test_every_gold_of_the_start_earns_and_the_own_reward_is_found(lab: Path) -> None:
    done = ran("reward", "test", "rewards.yaml", "runs/data", "--out", "tried.json", folder=lab)
    assert done.returncode == 0, done.stderr
    tried = {row["reward"]: row["means"]["exact"] for row in json.loads((lab / "tried.json").read_text())}
    assert {name for name, mean in tried.items() if mean == 1.0} >= {"yesno", "count", "box", "brevity"}


def test_a_model_is_asked_about_a_picture(lab: Path) -> None:
    done = ran("ask", "demo", "my_data/photos/01.png", "How many squares are there?", "--tokens", "16", folder=lab)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo", "my_data/photos/01.png"), "the question is missing: the last argument is the file"),
        (("demo", "nowhere.png", "What?"), "no file at nowhere.png; put the question in quotes"),
        (("demo", "my_data/questions.jsonl", "What?"), "is not a video of a known format"),
    ],
)
def test_a_question_without_its_parts_is_refused_in_one_line(lab: Path, words: tuple[str, ...], message: str) -> None:
    done = ran("ask", *words, folder=lab)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


def interruptible() -> None:
    """A shell that starts tests in the background has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_build_that_is_stopped_says_that_it_goes_on(tmp_path: Path) -> None:
    slow = "import time\nfrom data_engine.operator import drops\n\n@drops\ndef wait(sample):\n    "
    slow += "open('begun', 'w').close()\n    time.sleep(0.5)\n"
    assert ran("init", ".", folder=tmp_path).returncode == 0
    (tmp_path / "slow.py").write_text(slow)
    recipe = (tmp_path / "data.yaml").read_text().replace("  - {fn: exact", "  - {fn: 'slow:wait'}\n  - {fn: exact")
    (tmp_path / "slow.yaml").write_text(recipe)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [*MMRL, "data", "build", "slow.yaml", "--workers", "0"]
    running = subprocess.Popen(
        words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert errors.splitlines()[-2:] == [
        f"what is done is kept in {tmp_path / 'runs' / '.data.stages'}",
        "mmrl data: stopped; the same command goes on from here",
    ]


@pytest.mark.slow
def test_the_commands_of_the_start_run_in_their_order(lab: Path) -> None:
    lines = list(commands(CONFIGS / START / "README.md"))
    assert len(lines) == 8
    for line in lines:
        import shlex

        done = ran(*shlex.split(line)[1:], folder=lab)
        assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
