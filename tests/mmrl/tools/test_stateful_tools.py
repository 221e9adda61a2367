"""Tools with a state: of one rollout, as the last call that succeeded left it, the same when a killed run goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmrl.core.config import InputError
from mmrl.tools.calls import calls_in
from mmrl.tools.registry import tools_of
from mmrl.tools.scene import Scene
from mmrl.tools.toolbox import States, Toolbox
from mmrl.trainers.given import tools as given
from tests.support.callers import calling_material
from tests.support.runs import assert_same_run
from tests.support.scripted import call
from tests.support.stateful_tools import Guessing
from tests.support.training import config, rollouts, trained

STATEFUL = "tests.support.stateful_tools:"


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    box = Toolbox([STATEFUL + "Guessing", "calculator"], seconds=2.0)
    yield box
    box.close()


def answers(toolbox: Toolbox, said: str, states: States, seed: int = 0) -> list[tuple[str, str]]:
    """(kind of outcome, text) of each call of a turn."""
    (outcomes,) = toolbox.outcomes([(calls_in(said), Scene(seed=seed))], [states])
    return [(outcome.kind, "".join(map(str, outcome.pieces))) for outcome in outcomes]


def test_each_method_is_a_tool() -> None:
    tools = tools_of([STATEFUL + "Guessing"])
    assert list(tools) == ["guess", "wait", "die"]
    assert tools["guess"].schema["function"]["parameters"]["properties"] == {
        "number": {"type": "integer", "description": "Your guess."}
    }
    assert given([Guessing], {}).tools == [STATEFUL + "Guessing"]  # pyright: ignore[reportOptionalMemberAccess]


def test_a_state_is_that_of_one_rollout(toolbox: Toolbox) -> None:
    hidden, first, second = random.Random(5).randint(1, 100), {}, {}
    assert answers(toolbox, call("guess", number=hidden), first, seed=5) == [("ok", "found, 3 left")]
    assert answers(toolbox, call("guess", number=hidden), second, seed=5) == [("ok", "found, 3 left")]
    assert answers(toolbox, call("guess", number=hidden), first, seed=6) == [("ok", "found, 2 left")]


def test_calls_of_a_turn_find_the_state_that_the_one_before_left(toolbox: Toolbox) -> None:
    said = call("wait", seconds=0.3) + call("calculator", expression="1+1") + call("wait", seconds=0) * 2
    expected = [("ok", "3 left"), ("ok", "2"), ("ok", "2 left"), ("ok", "1 left")]
    assert answers(toolbox, said, {}) == expected


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (call("guess", number=101), "refused"),
        (call("guess", number="many"), "wrong_arguments"),
        (call("wait", seconds=-1), "raised"),
        (call("wait", seconds=60), "timed_out"),
        (call("die"), "died"),
    ],
)
def test_a_call_without_a_result_changes_nothing(toolbox: Toolbox, said: str, kind: str) -> None:
    states: States = {}
    assert answers(toolbox, call("wait", seconds=0), states) == [("ok", "3 left")]
    assert [outcome for outcome, _ in answers(toolbox, said, states)] == [kind]
    assert answers(toolbox, call("wait", seconds=0), states) == [("ok", "2 left")]


def test_objects_are_closed_when_their_rollout_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRL_NOTES", str(tmp_path / "notes"))
    toolbox, states = Toolbox([STATEFUL + "Notes"], seconds=5.0), {}
    assert answers(toolbox, call("note", line="a") + call("note", line="b"), states)[1] == ("ok", "a\nb")
    toolbox.ended([states, {}])
    toolbox.close()
    assert (tmp_path / "notes").read_text() == "a/b\n"


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("Locked", "raised", "cannot pickle '_thread.lock' object"),
        ("Greeting", "raised", "reset returns something that nobody reads"),
        ("Hoarding", "too_large", "bytes, the limit is 16,777,216"),
    ],
)
def test_a_state_that_cannot_be_kept_is_told_so(name: str, kind: str, why: str) -> None:
    toolbox = Toolbox([STATEFUL + name], seconds=5.0)
    ((came, told),) = answers(toolbox, call("note", line="a"), {})
    toolbox.close()
    assert came == kind
    assert why in told


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Eager", "__init__ wants level; only reset may want something, the scene"),
        ("Demanding", "reset wants prompt; only reset may want something, the scene"),
        ("Endless", "is a class without a method reset"),
        ("Idle", "is a class without a method that a model could call, such as step"),
        ("Paid", "get_reward has no effect; write a reward that reads rollout.turns"),
    ],
)
def test_what_cannot_be_a_tool_with_a_state_is_refused(name: str, why: str) -> None:
    with pytest.raises(InputError) as error:
        tools_of([STATEFUL + name])
    assert why in str(error.value)


def test_a_killed_run_whose_tools_have_a_state_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    world = calling_material(tmp_path / "world", "tt", call("guess", number=50), [STATEFUL + "Guessing"])
    grpo = {"max_completion_length": 200, "per_device_train_batch_size": 4, "max_steps": 2, "save_steps": 1}
    options: dict[str, Any] = {"grpo": grpo | {"learning_rate": 1e-4}}
    options["rollout"] = {"tools": [STATEFUL + "Guessing"], "max_turns": 3}
    whole = trained(config(world, tmp_path / "whole.yaml", **options))
    broken = config(world, tmp_path / "broken.yaml", **options)
    trained(broken, dies=True, DIE_AT="1")
    assert_same_run(whole, trained(broken))
    groups: dict[tuple[str, str], set[str]] = {}  # what the members of a group read of the same first call
    for file, rows in rollouts(whole).items():
        for row in rows:
            calls = [one for turn in json.loads(row["turns"]) for one in turn["calls"]]
            if calls and json.loads(calls[0]["arguments"]) == {"number": 50}:
                assert calls[0]["read"].endswith("3 left")
                groups.setdefault((file, row["id"]), set()).add(calls[0]["read"])
    assert groups
    assert all(len(read) == 1 for read in groups.values())
