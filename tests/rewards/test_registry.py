"""Names and YAML become rewards, mistakes show at the door, and suites route, count and stop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmrl.core.config import InputError
from mmrl.core.registry import options_of
from rewards import REWARDS, Reward, RewardError, RewardSpec, Rollout, Suite, Verdict, get, per_rollout
from rewards.registry import function_of

HERE = __name__
MIXED = Path(__file__).parents[2] / "configs/rewards/mixed.yaml"


@per_rollout
def brevity(rollout: Rollout, *, limit: int = 10) -> float:
    return float(len(rollout.completion) <= limit)


def better(rollouts: Sequence[Rollout], *, of: list[Reward], floor: float = 0.0) -> list[float | None]:
    """The best score that any of some rewards gives."""
    columns = [reward(rollouts) for reward in of]
    scores = [[verdict.score for verdict in row if verdict.score is not None] for row in zip(*columns, strict=True)]
    return [max([floor, *row]) if row else None for row in scores]


def unless(rollouts: Sequence[Rollout], *, reward: Reward, other: Reward) -> list[Verdict]:
    """The scores of a reward, and those of the other where it abstains."""
    return [a if a.score is not None else b for a, b in zip(reward(rollouts), other(rollouts), strict=True)]


def broken(rollouts: Sequence[Rollout]) -> list[float]:
    raise RuntimeError("no such table")


@per_rollout
def breaks_late(rollout: Rollout) -> float:
    if (rollout.step or 0) > 100:
        raise RuntimeError("server gone")
    return 1.0


NOT_A_REWARD = 3


EXPLAINED_ONCE = {"judge", "batch", "device", "dtype"}  # options of many rewards, in the guide


@pytest.mark.parametrize("name", REWARDS)
def test_every_registered_reward_is_a_documented_function(name: str) -> None:
    function = function_of(name)
    doc, options = function.__doc__ or "", options_of(function).model_fields
    assert doc.partition("\n")[0].endswith("."), f"{REWARDS[name]}: one sentence on the first line says what it scores"
    unexplained = [option for option in options if option not in doc and option not in EXPLAINED_ONCE]
    assert not unexplained, f"{REWARDS[name]}: the docstring must explain the options {', '.join(unexplained)}"
    if not any(option.is_required() for option in options.values()):
        assert get(name)([]) == []


def test_a_custom_reward_is_named_by_module_and_function() -> None:
    rollouts = [Rollout("short"), Rollout("much too long")]
    assert [row.score for row in get(f"{HERE}:brevity")(rollouts)] == [1.0, 0.0]
    assert [row.score for row in get(f"{HERE}:brevity", limit=20)(rollouts)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chioce_match", {}, "unknown reward 'chioce_match'; did you mean choice_match?"),
        (
            "box_iou",
            {"treshold": 0.5},
            r"unknown key treshold \(value 0.5\); did you mean threshold\? \(known: as_released, cut, kind, space",
        ),
        ("box_iou", {"kind": "giuo"}, "reward box_iou: kind: Input should be 'iou', 'giou', 'diou' or 'ciou'"),
        ("box_iou", {"threshold": 50}, "threshold: .*less than or equal to 1"),
        ("box_iou", {"space": "inches"}, "space: .*'pixel', 'unit', 'per_mille' or 'resized'"),
        ("number_match", {"rel_tol": -1}, "rel_tol: .*greater than or equal to 0"),
        ("tag_format", {"tags": "answer"}, "tags: .*valid tuple"),
        ("yesno_match", {"strict": True}, "reward yesno_match takes no options, got strict"),
        ("no_such_lab.rewards:brevity", {}, "cannot import reward 'no_such_lab.rewards:brevity': No module named"),
        (f"{HERE}:brevty", {}, "has no attribute 'brevty'"),
        (f"{HERE}:NOT_A_REWARD", {}, "is a int, not a function"),
        (f"{HERE}:unless", {"reward": {"fn": "choice_match"}}, "missing key other"),
        (
            f"{HERE}:unless",
            {"reward": "choice_match", "other": {"fn": "text_match"}},
            "reward: Input should be callable",
        ),
        (f"{HERE}:unless", {"reward": {"fn": "choice_match", "arg": {}}}, "unknown key arg .*did you mean args"),
        (f"{HERE}:unless", {"reward": {"fn": "choice"}}, "unknown reward 'choice'; did you mean choice_match"),
    ],
)
def test_a_wrong_name_or_option_is_an_error_that_names_the_right_one(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        get(name, **options)


def test_rewards_may_be_made_of_rewards_to_any_depth() -> None:
    inner = {
        "fn": f"{HERE}:better",
        "args": {"of": [{"fn": "yesno_match"}, {"fn": f"{HERE}:brevity", "args": {"limit": 4}}]},
    }
    suite = Suite({"either": {"fn": f"{HERE}:unless", "args": {"reward": {"fn": "choice_match"}, "other": inner}}})
    rollouts = [
        Rollout("B", {"choice": "A", "options": ["x", "y"]}),
        Rollout("yes, it is", {"yesno": True}),
        Rollout("yes, it is", {"yesno": False}),
        Rollout("no", {"yesno": True}),
    ]
    assert [row["either"].score for row in suite.score(rollouts)] == [0, 1, 0, 1]


def rollouts(count: int, task: str = "", step: int = 0) -> list[Rollout]:
    return [Rollout("B", "B", task, step=step)] * count


def test_a_suite_calls_a_reward_with_the_rollouts_of_its_tasks_only() -> None:
    suite = Suite(
        {"right": RewardSpec(fn="choice_match", weight=2.0, tasks=["choice"]), "short": {"fn": f"{HERE}:brevity"}}
    )
    table = suite.score([*rollouts(2, "choice"), *rollouts(1, "text"), *rollouts(1)])
    assert [[row[name].score for name in suite.names] for row in table] == [[1, 1], [1, 1], [None, 1], [None, 1]]
    assert {row["right"].kind for row in table[2:]} == {"abstained"}
    assert (suite.names, suite.weights) == (["right", "short"], [2.0, 1.0])
    assert (suite.counts["right"].total(), suite.counts["short"].total()) == (2, 4)
    assert suite.score([]) == []


def test_a_suite_counts_its_verdicts_by_kind() -> None:
    suite = Suite({"right": {"fn": "choice_match"}})
    suite.score([Rollout("A", "B"), Rollout("B", "B"), Rollout("?", "B"), Rollout("B", None)])
    suite.score([Rollout("?", "B")])
    assert suite.counts["right"] == {"scored": 2, "unparsed": 2, "abstained": 1}


def test_a_suite_says_which_rewards_fire_and_refuses_a_task_that_none_scores() -> None:
    suite = Suite.load(MIXED)
    assert suite.tasks_scored(["count", "temporal", "count"]) == {
        "count": ["number", "format"],
        "temporal": ["temporal", "format"],
    }
    bare = Suite(
        {"right": {"fn": "choice_match", "tasks": ["choice"]}, "where": {"fn": "box_iou", "tasks": ["grounding"]}}
    )
    bare.check_tasks(["grounding", "choice"])
    with pytest.raises(InputError, match=r"no reward scores the task 'groundng'; did you mean grounding\?"):
        bare.check_tasks(["choice", "groundng"])


def test_a_reward_that_fails_too_often_stops_the_run_once_enough_is_known() -> None:
    suite = Suite({"mine": {"fn": f"{HERE}:broken"}})
    suite.score(rollouts(199))
    assert suite.counts["mine"] == {"failed": 199}
    with pytest.raises(RewardError, match=r"reward mine failed on 200 of its last 200 .*RuntimeError: no such table"):
        suite.score(rollouts(1))


def test_a_reward_that_breaks_after_a_long_healthy_run_stops_it_too() -> None:
    suite = Suite({"mine": {"fn": f"{HERE}:breaks_late"}}, max_failed=0.5, min_calls=20)
    for _ in range(100):
        suite.score(rollouts(10, step=1))
    suite.score(rollouts(10, step=101))
    with pytest.raises(RewardError, match=r"reward mine failed on 20 of its last 20 .*server gone"):
        suite.score(rollouts(10, step=101))


def test_a_tolerated_share_of_failures_goes_on() -> None:
    suite = Suite({"mine": {"fn": f"{HERE}:breaks_late"}}, max_failed=0.5, min_calls=10)
    suite.score([*rollouts(5, step=1), *rollouts(5, step=101)])
    assert suite.counts["mine"] == {"scored": 5, "failed": 5}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({}, "at least 1 item"),
        ({"a": {"fn": "choice_match", "wieght": 1}}, "unknown key rewards.a.wieght .*did you mean weight"),
        ({"a": {"fn": "choice_match", "weight": float("nan")}}, "rewards.a.weight: .*finite number"),
        ({"a": {"fn": "choice_match", "tasks": []}}, "rewards.a.tasks: .*at least 1 item"),
        ({"a": {"weight": 1}}, "missing key rewards.a.fn"),
        ({"a": {"fn": "choice_mtach"}}, "rewards.a: unknown reward 'choice_mtach'; did you mean choice_match"),
        (
            {"a": {"fn": "box_iou", "args": {"kid": "iou"}}},
            "rewards.a: reward box_iou: unknown key kid .*did you mean kind",
        ),
    ],
)
def test_a_mistake_in_a_suite_names_its_key(specs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Suite(specs)


def test_importing_rewards_is_quick_and_loads_no_heavy_library() -> None:
    code = (
        "import sys, time, rewards; print(time.process_time(), "
        "*(m for m in ('torch', 'transformers', 'numpy', 'scipy') if m in sys.modules))"
    )
    seconds, *heavy = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert heavy == []
    assert float(seconds) < 0.8  # about 0.2 s of an idle core
