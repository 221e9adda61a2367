"""Rewards of form and rewards of content: a task that only a form scores is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mmrl.core.config import InputError
from rewards import Rollout, Suite, get
from rewards.forms import GOLDS, MADE_OF_REWARDS, OF_FORM, WITHOUT_GOLD, check_substance, is_of_form
from rewards.registry import REWARDS
from rewards.tasks.table import TASKS

GOLD = {"choice": {"choice", "options"}, "ocr": {"text"}, "caption": {"references"}}
RULES = sorted(name for name in GOLDS if ".rules." in REWARDS[name] and name != "bmas")  # that one needs a table


def refusal(rewards: dict[str, Any], golds: dict[str, set[str]], form_only: tuple[str, ...] = ()) -> str:
    """Why the suite is refused for data with these golds; empty if it is not."""
    try:
        check_substance(Suite(rewards).specs, golds, form_only)
    except InputError as error:
        return str(error)
    return ""


def test_every_reward_is_of_form_or_reads_something() -> None:
    known = OF_FORM | MADE_OF_REWARDS | GOLDS.keys() | WITHOUT_GOLD
    assert not known ^ REWARDS.keys(), f"rewards/forms.py: say what {sorted(known ^ REWARDS.keys())} read"
    assert not GOLDS.keys() & (OF_FORM | MADE_OF_REWARDS | WITHOUT_GOLD)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_abstains_without_the_gold_it_is_said_to_read(name: str) -> None:
    for task, kind in TASKS.items():
        gold = {key: value for key, value in kind.example.items() if value not in ("", [], None)}
        (verdict,) = get(name)([Rollout("<think>I look.</think><answer>a cat</answer>", gold, task)])
        assert (verdict.kind != "abstained") == bool(set(GOLDS[name]) & gold.keys()), (task, verdict)


def test_a_task_that_only_forms_score_is_refused_with_what_would_score_it() -> None:
    rewards = {"right": {"fn": "choice_match", "tasks": ["choice"]}, "form": {"fn": "think_format"}}
    assert refusal(rewards, {"choice": GOLD["choice"]}) == ""
    message = refusal(rewards, GOLD)
    assert len(message) <= 500
    assert "task 'ocr'" in message
    assert "form (think_format)" in message
    assert "anls" in message
    assert "form_only: [ocr]" in message
    assert "bmas" in refusal(rewards, {"caption": {"references"}})
    assert "judge, or one of your own" in refusal(rewards, {"lab": {"secret"}})
    assert "caption" in refusal(rewards, GOLD, ("ocr",))
    assert refusal(rewards, GOLD, ("ocr", "caption")) == ""
    assert "unknown task 'orc'; did you mean ocr" in refusal(rewards, GOLD, ("orc",))


@pytest.mark.parametrize(
    ("content", "scores"),
    [
        ({"fn": "anls"}, True),
        ({"fn": "rewards.rules.text:anls"}, True),
        ({"fn": "anls", "weight": 0}, False),  # only watched
        ({"fn": "choice_match"}, False),  # abstains: an ocr sample has no letter
        ({"fn": "choice_match", "tasks": ["ocr"]}, False),
        ({"fn": "rewards.rules.format:tag_format"}, False),
        ({"fn": "repetition"}, False),
        ({"fn": "length_mask", "args": {"reward": {"fn": "bleu"}}}, True),
        ({"fn": "length_mask", "args": {"reward": {"fn": "think_format"}}}, False),
        ({"fn": "length_penalty", "args": {"reward": {"fn": "anls"}}}, False),
        ({"fn": "gate", "args": {"reward": {"fn": "think_format"}, "when": {"fn": "anls"}}}, True),
        ({"fn": "progressive", "args": {"reward": {"fn": "tag_format"}, "schedule": {0.5: {"fn": "anls"}}}}, True),
        ({"fn": "tests.support.training:letters"}, True),  # one of your own is trusted
    ],
)
def test_what_counts_as_scoring_a_task(content: dict[str, Any], scores: bool) -> None:
    assert (refusal({"form": {"fn": "think_format"}, "content": content}, {"ocr": {"text"}}) == "") == scores


def test_a_reward_made_of_forms_is_a_form() -> None:
    assert is_of_form("gate", {"reward": {"fn": "tag_format"}, "when": {"fn": "think_format"}})
    assert not is_of_form("gate", {"reward": {"fn": "tag_format"}, "when": {"fn": "my_lab:reward"}})


def test_a_suite_file_may_name_such_tasks(tmp_path: Any) -> None:
    (tmp_path / "a.yaml").write_text("rewards: {form: {fn: think_format}}\nform_only: [ocr]\nmin_calls: 7")
    suite = Suite.load(tmp_path / "a.yaml")
    assert suite.config.form_only == ["ocr"]
    assert suite.config.min_calls == 7
