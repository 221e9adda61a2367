"""Code that a recipe names and that is not ours: looking at the recipe does not run it, and running it is told."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe
from mmrl.commands.data import app
from mmrl.core import foreign
from mmrl.core.config import InputError, validate
from rewards import get

STRANGE = """
from pathlib import Path
import os

from os import system


def rows(*, mark: str):
    Path(mark).write_text("was called")
    return iter(())


def texts(*, mark: str):
    yield "not a sample"
"""

OWN = """
from data_engine.schema import Sample, user_prompt


def rows():
    yield Sample("", "lab", "yesno", user_prompt("Is it?", []), {"yesno": True})
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "strange_rows.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange_rows", raising=False)
    monkeypatch.setattr(foreign, "_said", set())
    source = f'{{fn: "strange_rows:rows", args: {{mark: {tmp_path / "mark"}}}}}'
    (tmp_path / "recipe.yaml").write_text(f"sources: [{source}]\noutput: {tmp_path / 'out'}")
    return tmp_path / "recipe.yaml"


def mmrl(*arguments: str | Path) -> str:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).output


def test_a_plan_imports_what_is_not_ours_and_does_not_call_it(recipe: Path) -> None:
    mark = recipe.parent / "mark"
    assert "not measured, as that would run strange_rows:rows; --measure 32 does" in mmrl("plan", recipe)
    assert not mark.exists()
    mmrl("plan", recipe, "--measure", "1")
    assert mark.exists()


def test_running_code_that_is_not_ours_is_told_once(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mmrl.core.foreign"):
        mmrl("build", recipe, "--workers", "0")
        mmrl("build", recipe, "--workers", "0")
    told = [record.getMessage() for record in caplog.records if record.name == foreign.__name__]
    assert told == [f"runs code of strange_rows:rows ({recipe.parent / 'strange_rows.py'})"]
    assert (recipe.parent / "mark").exists()


@pytest.mark.parametrize("fn", ["os:listdir", "subprocess:run", "strange_rows:system", "strange_rows:os.walk"])
def test_a_function_of_python_is_no_source(fn: str, recipe: Path) -> None:
    with pytest.raises(InputError, match=f"source {fn!r} is a part of Python; name a function that was written as a"):
        run(validate(Recipe, {"sources": [{"fn": fn}]}, where="recipe"), out=recipe.parent / "out")


def test_a_function_of_an_installed_package_is_a_source_if_it_was_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.pkl").write_bytes(b"")
    spec = {"fn": "pandas:read_pickle", "args": {"filepath_or_buffer": str(tmp_path / "table.pkl")}}
    with pytest.raises(InputError, match="is of an installed package that knows nothing of mmrl; write a function of"):
        run(validate(Recipe, {"sources": [spec]}, where="recipe"), out=tmp_path / "out")
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "lab_rows.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(installed))
    counts = run(validate(Recipe, {"sources": [{"fn": "lab_rows:rows"}]}, where="recipe"), out=tmp_path / "out")
    assert counts.kept.total() == 1


def test_rules_of_our_benchmarks_are_not_announced_as_code_of_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_said", set())
    with caplog.at_level(logging.WARNING, logger=foreign.__name__):
        get("eval.benchmarks.published.vqa:exact_match")
    assert not caplog.records


@pytest.mark.parametrize("fn", ["os:system", "shutil:rmtree", "subprocess:Popen", "builtins:print"])
def test_a_function_of_python_is_no_reward(fn: str) -> None:
    with pytest.raises(InputError, match=f"reward {fn!r} is a part of Python"):
        get(fn)


def test_a_source_of_something_else_than_samples_is_refused(recipe: Path) -> None:
    spec = {"fn": "strange_rows:texts", "args": {"mark": "x"}}
    with pytest.raises(InputError, match="source texts yields 'not a sample'; a source yields Samples"):
        run(validate(Recipe, {"sources": [spec]}, where="recipe"), out=recipe.parent / "out")
