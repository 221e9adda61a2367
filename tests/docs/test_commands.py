"""Every command of the documentation is one of the program, and every config in it loads."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import typer
import yaml

from data_engine.recipe import Recipe
from data_engine.sources.row_format import Rows
from eval.config import EvalConfig
from eval.difficulty import DifficultyConfig
from mmrl.cli import VERBS
from mmrl.core.config import Config, InputError, load, validate
from mmrl.train.attack import AttackConfig
from mmrl.train.config import TrainConfig
from mmrl.train.reference_scores import ScoreConfig
from rewards import Suite
from rewards.suite import SuiteConfig
from tests.docs.pages import PAGES, ROOT, blocks, commands, files_in, name_of

SCHEMAS: dict[str, type[Config]] = {
    "data build": Recipe,
    "data plan": Recipe,
    "data difficulty": DifficultyConfig,
    "data score": ScoreConfig,
    "data steps": SuiteConfig,
    "train": TrainConfig,
    "eval run": EvalConfig,
    "reward score": SuiteConfig,
    "reward test": SuiteConfig,
    "reward attack": AttackConfig,
    "eval rewards": SuiteConfig,
    "eval score": SuiteConfig,
}
PROGRAMS = {"mmrl": "", "data_engine": "data", "eval": "eval"}  # `python -m` NAME: the verb it stands for
LINES = [(page, line) for page in PAGES for line in commands(page)]
OURS = [(page, line) for page, line in LINES if line.startswith("mmrl ") or " -m mmrl " in line]
OURS += [
    (config, re.sub(r"\s\s.*", "", line))  # two blanks end a command in the head of a config
    for config in sorted((ROOT / "configs").rglob("*.yaml"))
    for line in re.findall(r"^#\s+(mmrl \w+.*)", config.read_text(encoding="utf-8"), re.MULTILINE)
]
OTHERS = (
    "make ",
    "pip install ",
    "python3 -m venv ",
    ". .venv/",
    "python -c ",
    "python -m mmrl.verifier ",
    "python -m benchmarks.",
)
MINIMAL: dict[type[Config], dict[str, Any]] = {
    Recipe: {"sources": [{"fn": "easy_vqa"}]},
    TrainConfig: {"model": "m", "data": "d", "output": "o"},
    EvalConfig: {"model": "m", "out": "o"},
    SuiteConfig: {},
}


@pytest.mark.parametrize(("page", "line"), OURS, ids=[f"{name_of(page)}: {line}" for page, line in OURS])
def test_a_command_parses_and_its_config_loads(page: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line.partition(" -m mmrl ")[2] or line.removeprefix("mmrl "))
    verb, *rest = words
    assert verb in VERBS
    command: Any = typer.main.get_command(resolve_name(VERBS[verb][0]))
    if hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no action {rest[0]} of mmrl {verb}"
        verb, command = f"{verb} {rest[0]}", command.commands[rest[0]]
        rest = rest[1:]
    given = command.make_context(verb, list(rest)).params
    config = next((word for word in rest if word.endswith(".yaml") and "=" not in word), None)
    if config and config != config.upper().replace("YAML", "yaml"):
        text = files_in(page).get(config)
        place = ROOT / config if text is None else None
        values = yaml.safe_load(text) if text else {}
        overrides = [value for value in given.get("overrides") or () if value]
        schema = SCHEMAS[verb]
        assert load(schema, place, overrides) if place else validate(schema, values, where=config)


def test_a_shell_block_holds_our_commands_and_those_of_tools() -> None:
    strange = [line for _, line in LINES if (_, line) not in OURS and not line.startswith(OTHERS)]
    assert strange == [], "test these commands, or add their program to OTHERS"


def test_make_has_the_targets_that_pages_name() -> None:
    targets = {*re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    named = {name for page in PAGES for name in re.findall(r"`make ([\w-]+)`", page.read_text())}
    assert {"test", "docs"} <= named <= targets


def test_modules_that_commands_run_exist() -> None:
    for _, line in LINES:
        words = shlex.split(line)
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]), line


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name_of)
def test_the_configs_in_a_page_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        values = yaml.safe_load(block)
        if isinstance(values, list):
            values = {"operators": values}
        elif {*values} == {"rows"}:
            assert validate(Rows, values["rows"], where=name_of(page))
            continue
        fits = [schema for schema in MINIMAL if {*values} <= {*schema.model_fields}]
        assert fits, f"no config of the project has the keys {', '.join(values)}"
        errors = []
        for schema in fits:
            try:
                _check(validate(schema, {**MINIMAL[schema], **values}, where=name_of(page)))
            except InputError as error:
                errors.append(f"{schema.__name__}: {error}")
        assert len(errors) < len(fits), "\n".join(errors)


def _check(config: Config) -> None:
    """The registered rewards in a config have the options that it gives them."""
    rewards = getattr(config, "rewards", None) or {}
    ours = {name: spec for name, spec in rewards.items() if ":" not in spec.fn}
    if ours:
        Suite(ours, judges=getattr(config, "judges", None) or {})
