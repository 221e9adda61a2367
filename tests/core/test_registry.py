"""One helper resolves names and checks options, for operators, sources, rewards and estimators."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from mmrl.core.config import InputError
from mmrl.core.registry import checked_options, options_of, resolve

REGISTRY = {"join": "os.path:join", "lost": "no.such.module:x", "number": "math:pi"}


def trim(samples: list[str], *, least: int = 1, how: Literal["soft", "hard"] = "soft", seed: int = 0, **_: Any) -> None:
    """A function with options, as a registry would name it."""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jion", "unknown operator 'jion'; did you mean join? (known: join, lost, number); yours is written module"),
        ("lost", "cannot import operator 'lost': No module named 'no'"),
        ("os.path:jion", "cannot import operator 'os.path:jion': "),
        ("number", "operator 'number' is a float, not a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        resolve(name, REGISTRY, "operator")


def test_options_come_complete_and_what_is_given_counts_where_nothing_was_chosen() -> None:
    given = {"seed": 7, "root": "/data"}
    assert checked_options(trim, {"least": "2"}, "trim", given=given) == {"least": 2, "how": "soft", "seed": 7}
    assert checked_options(trim, {"seed": 1}, "trim", given=given)["seed"] == 1
    assert list(options_of(trim, first=given).model_fields) == ["seed", "least", "how"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lest": 2}, "trim: unknown key lest (value 2); did you mean least?"),
        ({"how": "firm"}, "trim: how: Input should be 'soft' or 'hard' (got 'firm')"),
    ],
)
def test_a_bad_option_is_named_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        checked_options(trim, options, "trim")


def test_options_of_a_function_without_any_are_refused() -> None:
    with pytest.raises(InputError, match="plain takes no options, got least"):
        checked_options(lambda samples: samples, {"least": 1}, "plain")
