"""Every registered operator, source and check explains itself: the reference is made of what these tests demand."""

from __future__ import annotations

import inspect
import re

import pytest

import data_engine.ops
import data_engine.sources
from data_engine.operator import kind_of, traits_of
from data_engine.ops import OPERATORS
from data_engine.sources import SOURCES
from data_engine.validate.checks import CHECKS
from mmrl.core.registry import options_of, resolve

WORD = re.compile(r"`(\w+)`")  # a name in a docstring
SPELT = re.compile(r"`(\w+)[:=]")  # an option with a value in a docstring


def unexplained(target: str, skip: int, shared: str | None) -> tuple[str, list[str]]:
    """(docstring, options that neither it nor the docstring of the package names)."""
    function = resolve(target, {}, "function")
    text = inspect.getdoc(function) or ""
    named = {*WORD.findall(text), *SPELT.findall(text), *WORD.findall(shared or "")}
    return text, [option for option in options_of(function, skip=skip).model_fields if option not in named]


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_explains_its_options(name: str) -> None:
    text, missing = unexplained(OPERATORS[name], 1, data_engine.ops.__doc__)
    assert re.match(r"[A-Z].*\.", text, re.DOTALL), f"{OPERATORS[name]} has no docstring: begin it with a sentence"
    assert not missing, f"{OPERATORS[name]}: explain the options {missing} in its docstring, as `{missing[0]}`"


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_explains_its_options(name: str) -> None:
    text, missing = unexplained(SOURCES[name], 0, data_engine.sources.__doc__)
    assert re.match(r"[A-Z`].*\.", text, re.DOTALL), f"{SOURCES[name]} has no docstring: begin it with a sentence"
    assert not missing, f"{SOURCES[name]}: explain the options {missing} in its docstring, as `{missing[0]}`"


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_says_how_it_is_called_and_what_a_recipe_must_know(name: str) -> None:
    function = resolve(name, OPERATORS, "operator")
    assert kind_of(function), f"{OPERATORS[name]}: put it under @drops, @each or @stream of data_engine.operator"
    repeats, fields = traits_of(function).repeats, options_of(function).model_fields
    assert not repeats or repeats in fields, f"{OPERATORS[name]}: {repeats!r} of @traits is not an option of it"


@pytest.mark.parametrize("code", [code for code, check in CHECKS.items() if check.find])
def test_a_check_is_a_function_of_its_name(code: str) -> None:
    find = CHECKS[code].find
    assert find
    assert getattr(find, "__name__", "") == code, f"data_engine/validate/checks.py: CHECKS[{code!r}].find is {find}"
    assert inspect.getdoc(find), f"{find.__module__}: {code} needs a docstring of one sentence"
