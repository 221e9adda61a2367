"""The examples in a reward's docstring: rollouts, verdicts and options, for tests of all rewards at once."""

from __future__ import annotations

import doctest
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards import Rollout, Verdict
from rewards.registry import function_of


@dataclass(frozen=True)
class Example:
    """One completion that a docstring scores, and how."""

    rollout: Rollout
    verdict: Verdict
    options: dict[str, Any]


@functools.cache
def examples(name: str) -> list[Example]:
    """All completions that the docstring of a registered reward scores, in their order."""
    function, seen = function_of(name), []

    @functools.wraps(function)
    def recorded(rollouts: Sequence[Rollout], **options: Any) -> list[Verdict]:
        verdicts = function(rollouts, **options)
        seen.extend(Example(*pair, options) for pair in zip(rollouts, verdicts, strict=True))
        return verdicts

    scope = {**vars(sys.modules[function.__module__]), function.__name__: recorded}
    test = doctest.DocTestParser().get_doctest(function.__doc__ or "", scope, name, None, None)
    doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None)
    return seen


def best(name: str, score: float) -> Example | None:
    """The last example in a docstring that earns `score`, the most that the reward gives."""
    return next((example for example in reversed(examples(name)) if example.verdict.score == score), None)
