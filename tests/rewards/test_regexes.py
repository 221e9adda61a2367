"""No pattern of the reward library takes long, however it is baited: all are found, none can be forgotten."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rewards
from rewards.parse.choices import _alone, _patterns
from rewards.rules.tool_call import _tags
from tests.rewards.rules.test_extract import BAITS

CHOICE = {
    **{"whole": "fullmatch", "tie": "sub", "denied": "sub", "stated": "finditer", "affirmed": "finditer"},
    **{"begun": "match", "listed": "search", "bracketed": "findall", "boxed": "match", "named": "findall"},
}
MADE = {  # functions that make patterns from their arguments -> patterns as they make them, and how they are called
    "rewards.parse.choices._patterns": [(_patterns("ABCD")[name], how) for name, how in CHOICE.items()],
    "rewards.parse.choices._alone": [(_alone("A"), "search"), (_alone("B"), "search")],
    "rewards.rules.tool_call._tags": [(_tags("answer"), "split")],
    "rewards.heads.checkpoint_torch.plain": [(re.compile(r"<\|im_start\|>|<\|im_end\|>|<pad>"), "sub")],
}
METHODS = ("search", "match", "fullmatch", "findall", "finditer", "sub", "split")
SECONDS = 0.1  # ten times the 10 ms that a pattern may take on 100 kB, for busy machines
Uses = dict[str, tuple[re.Pattern[str], set[str]]]


def modules() -> Iterator[tuple[str, ast.Module, dict[str, object]]]:
    for info in pkgutil.walk_packages(rewards.__path__, "rewards."):
        module = importlib.import_module(info.name)
        yield info.name, ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")), vars(module)


def uses() -> tuple[Uses, list[str]]:
    """Every pattern with the methods it is called by, and the functions that make patterns and are not in MADE."""
    patterns: Uses = {}
    called: dict[str, set[str]] = {}
    unknown: list[str] = []
    for name, tree, values in modules():
        for key, value in values.items():
            if isinstance(value, re.Pattern):
                patterns.setdefault(f"{name}.{key}", (value, set()))
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
                    continue
                owner, method = call.func.value.id, call.func.attr
                if owner != "re":
                    called.setdefault(f"{name}.{owner}", set()).add(method)
                    continue
                try:
                    made = eval(compile(ast.Expression(call.args[0]), name, "eval"), dict(values))
                except NameError:  # made from what the function is given
                    if f"{name}.{function.name}" not in MADE:
                        unknown.append(f"{name}.{function.name}")
                    continue
                patterns[f"{name}.{function.name}:{call.lineno}"] = (re.compile(made), {method})
    for name, (_, methods) in patterns.items():
        methods |= called.get(name, set()) & {*METHODS}
    for name, made in MADE.items():
        patterns |= {f"{name} {i}": (pattern, {how}) for i, (pattern, how) in enumerate(made)}
    return patterns, unknown


PATTERNS, UNKNOWN = uses()


def least_seconds(pattern: re.Pattern[str], method: str, text: str, enough: float) -> float:
    """What the pattern takes at best of three; one that is quick enough at once is not asked again."""
    bait = text.encode() if isinstance(pattern.pattern, bytes) else text
    run = {"finditer": pattern.findall, "sub": lambda text: pattern.sub(text[:0], text)}.get(method)
    run = run or getattr(pattern, method)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        run(bait)
        best = min(best, time.process_time() - start)
        if best < enough:
            break
    return best


def seconds(pattern: re.Pattern[str], method: str, bait: str) -> float:
    """At most what the pattern takes: a tenth of the bait shows whether even its square would stay in the limit."""
    part = least_seconds(pattern, method, bait[:5000] + bait[-5000:], SECONDS / 100)
    return 100 * part if part < SECONDS / 100 else least_seconds(pattern, method, bait, SECONDS / 10)


def test_every_pattern_is_found() -> None:
    assert not UNKNOWN
    assert len(PATTERNS) >= 40


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_long_on_100_kb(name: str) -> None:
    pattern, methods = PATTERNS[name]
    worst = max(
        (seconds(pattern, method, bait), method, bait[:30]) for method in methods or {"findall"} for bait in BAITS
    )
    assert worst[0] < SECONDS, worst
