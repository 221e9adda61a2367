"""Rewards on preferences: accuracy by dimension, ties, length bias, calibration."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.preferences.pairwise import calibration, judged_preferences
from mmrl.commands.eval import app
from mmrl.core.config import InputError


def bench(tmp_path: Path, *items: dict[str, Any]) -> Path:
    file = tmp_path / "bench.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


def item(right: str, wrong: str, dimension: str, preferred: int = 0) -> dict[str, Any]:
    candidates = [right, wrong] if preferred == 0 else [wrong, right]
    return {
        "prompt": "Is it?", "candidates": candidates, "preferred": preferred, "dimension": dimension,
        "task": "yesno", "answer": {"yesno": True},
    }  # fmt: skip


def test_accuracy_by_dimension_with_ties_shared_out(tmp_path: Path) -> None:
    file = bench(
        tmp_path,
        item("<answer>yes</answer>", "<answer>no</answer>", "plain"),
        item("<answer>yes</answer>", "<answer>no, long as it is</answer>", "plain", preferred=1),
        item("<answer>yes, of course</answer>", "<answer>yes</answer>", "tied"),
    )
    rows = {row["dimension"]: row for row in judged_preferences("yesno_match", file)["rows"]}
    assert (rows["plain"]["mean"], rows["tied"]["mean"], rows["all"]["mean"]) == (1.0, 0.5, pytest.approx(2.5 / 3))
    assert rows["all"]["swapped"] == 0.0
    assert rows["all"]["right_if_shorter"] == 1.0
    assert rows["all"]["unjudged"] == 0.0


def test_a_reward_without_a_verdict_is_counted_and_not_wrong(tmp_path: Path) -> None:
    unknown = {"prompt": "?", "candidates": ["a", "b"], "preferred": 0, "task": "yesno"}
    row = judged_preferences("yesno_match", bench(tmp_path, unknown))["rows"][0]
    assert (row["mean"], row["unjudged"]) == (None, 1.0)


def test_calibration_of_a_reward_that_is_sure_and_wrong() -> None:
    assert calibration([1.0, 1.0, -1.0, -1.0], [1.0, 1.0, 0.0, 0.0])["ece"] == 0.5
    assert calibration([0.0, 0.0], [0.5, 0.5])["ece"] == 0.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("?", "line 1: expected .* got '\\?'"),
        ({"prompt": "a", "preferred": 0}, "line 1: candidates must be a list of at least two texts, got None"),
        ({"candidates": ["a"], "preferred": 0}, "line 1: candidates must be a list of at least two texts"),
        ({"candidates": "ab", "preferred": 0}, "line 1: candidates must be a list of at least two texts, got 'ab'"),
        ({"candidates": ["a", None], "preferred": 0}, "line 1: candidate 1 must be a text"),
        ({"candidates": ["a", "a "], "preferred": 0}, "line 1: candidates 0 and 1 are equal"),
        ({"candidates": ["a", "b"], "preferred": 2}, "preferred must be the number of one of 2 candidates"),
        ({"candidates": ["a", "b"], "preferred": True}, "preferred must be the number of one of 2 candidates"),
        ({"candidates": ["a", "b"], "preferred": 0, "media": "a.png"}, "media must be a list of paths"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        judged_preferences("yesno_match", bench(tmp_path, line))


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    file = bench(tmp_path, item("<answer>yes</answer>", "<answer>no</answer>", "plain"))
    out = tmp_path / "out.json"
    arguments = ["rewards", "yesno_match", str(file), "--json", str(out)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"}, catch_exceptions=False)
    assert "plain" in result.stdout
    assert json.loads(out.read_text())["items"] == 1
