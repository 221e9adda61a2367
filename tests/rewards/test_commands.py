"""`mmrl reward` on real files: its output, its files, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli import VERBS, run
from rewards import Rollout

ROOT = Path(__file__).parents[2]
MIXED = str(ROOT / "configs/rewards/mixed.yaml")
ROWS: list[dict[str, Any]] = [
    {
        "id": "c",
        "task": "choice",
        "completion": "<think>1</think><answer>B</answer>",
        "answer": {"choice": "B", "options": ["x", "y"]},
    },
    {"id": 7, "task": "yesno", "completion": "yes and no", "answer": {"yesno": True}},
    {"task": "count", "completion": "<answer>4</answer>", "answer": {"number": 3}},
    {
        "id": "g",
        "task": "grounding",
        "prompt": [{"role": "user", "content": "Where?"}],
        "completion": "[0, 0, 56, 28]",
        "answer": {"boxes": [[0, 0, 100, 100]]},
        "media": [{"kind": "image", "path": "a.png", "width": 100, "height": 100}],
        "seen_size": [[56, 56]],
        "meta": {"space": "resized"},
        "group": "q1",
        "step": 3,
        "total_steps": 10,
    },
    {"id": "t", "task": "temporal", "completion": "2 to 6", "answer": {"spans": [[4, 8]]}},
]


@dataclass
class Ran:
    status: int
    stdout: str
    stderr: str

    @property
    def cells(self) -> list[list[str]]:
        return [line.replace("│", " ").split() for line in self.stdout.splitlines()]


@pytest.fixture
def reward(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    monkeypatch.setenv("COLUMNS", "200")

    def ran(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as end:
            run("mmrl reward", VERBS["reward"][0], list(arguments))
        captured = capsys.readouterr()
        return Ran(int(end.value.code or 0), captured.out, captured.err)

    return ran


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_a_suite_scores_a_file_of_rollouts(reward: Callable[..., Ran], tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores.jsonl"
    ran = reward("score", MIXED, write(tmp_path / "rollouts.jsonl", ROWS), "--out", str(out))
    assert ran.status == 0, ran.stderr
    scores = {row["id"]: row["scores"] for row in map(json.loads, out.read_text().splitlines())}
    none = dict.fromkeys(name for name in scores["c"] if name != "format")
    assert scores == {
        "c": {**none, "choice": 1, "format": 1},
        7: {**none, "yesno": 0, "format": 0},
        3: {**none, "number": 0, "format": 0},
        "g": {**none, "grounding": pytest.approx(0.5), "format": 0},
        "t": {**none, "temporal": pytest.approx(1 / 3), "format": 0},
    }
    why = json.loads(out.read_text().splitlines()[2])["why"]
    assert why["number"] == "said 4, gold 3"
    assert ["yesno", "1", "0.000", "1", "1", "0", "0"] in ran.cells
    assert ["format", "0.2", "0.200", "5", "0", "0", "0"] in ran.cells
    assert list(out.parent.iterdir()) == [out]


def test_a_bare_reward_scores_in_its_own_column_with_options_from_the_command_line(
    reward: Callable[..., Ran], tmp_path: Path
) -> None:
    rows = write(tmp_path / "rollouts.jsonl", ROWS)
    out = tmp_path / "scores.jsonl"
    ran = reward("score", "box_iou", rows, "threshold=0.5", "kind=giou", "--out", str(out))
    assert ran.status == 0, ran.stderr
    scores = [json.loads(line)["scores"] for line in out.read_text().splitlines()]
    assert scores == [{"box_iou": score} for score in (None, None, None, 1.0, None)]
    assert ["box_iou", "1", "1.000", "1", "0", "4", "0"] in ran.cells
    changed = reward("score", MIXED, rows, "rewards.format.weight=0.5")
    assert ["format", "0.5", "0.200", "5", "0", "0", "0"] in changed.cells


def test_ones_own_reward_is_scored_from_the_directory_one_works_in(tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text("def brevity(rollouts, *, limit=3):\n    return [0.5 for r in rollouts]\n")
    rows = write(tmp_path / "rollouts.jsonl", [{"completion": "no", "answer": None}])
    command = [sys.executable, "-m", "mmrl", "reward", "score", "my_lab:brevity", rows, "limit=5", "--out", "s.jsonl"]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert json.loads((tmp_path / "s.jsonl").read_text()) == {
        "id": 1,
        "scores": {"my_lab:brevity": 0.5},
        "why": {"my_lab:brevity": ""},
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"completion": "a"', "not a JSON object"),
        ("[1]", "expected a JSON object, got list"),
        ({"answer": "a"}, "missing key completion"),
        ({"completion": "a"}, "missing key answer"),
        ({"completion": 3, "answer": 1}, "completion: Input should be a valid string (got 3)"),
        ({"completion": "a", "answer": 1, "taks": "x"}, "unknown key taks (value 'x'); did you mean task?"),
        ({"completion": "a", "answer": 1, "seen_size": [[0, 5]]}, "seen_size.0.0: Input should be greater than 0"),
        (
            {"completion": "a", "answer": 1, "media": [{"widht": 5}]},
            "unknown key media.0.widht (value 5); did you mean",
        ),
    ],
)
def test_a_bad_row_is_named_by_line_and_key_and_leaves_old_scores_alone(
    reward: Callable[..., Ran], tmp_path: Path, bad: Any, message: str
) -> None:
    out = tmp_path / "scores.jsonl"
    out.write_text("old")
    ran = reward("score", MIXED, write(tmp_path / "rollouts.jsonl", [ROWS[0], bad]), "--out", str(out))
    assert (ran.status, ran.stdout) == (2, "")
    assert f"rollouts.jsonl:2: {message}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rollouts.jsonl", "scores.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "chioce_match", "x.jsonl"], "unknown reward 'chioce_match'; did you mean choice_match"),
        (["score", "nowhere.yaml", "x.jsonl"], "no config file at nowhere.yaml"),
        (["score", "choice_match", "nowhere.jsonl"], "no rollouts file at nowhere.jsonl"),
        (["score", "choice_match", "nowhere.jsonl", "strict=1"], "reward choice_match takes no options, got strict"),
        (["show", "box_io"], "unknown reward 'box_io'; did you mean box_iou"),
    ],
)
def test_what_is_typed_wrong_is_one_line_on_stderr(
    reward: Callable[..., Ran], arguments: list[str], message: str
) -> None:
    ran = reward(*arguments)
    assert (ran.status, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["score", "test"])
def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_scored(
    reward: Callable[..., Ran], tmp_path: Path, command: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "yes", "answer": "yes"}\n')
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "scores.jsonl"):
        ran = reward(command, f"{__name__}:broken", str(rows), "--out", str(out))
        assert (ran.status, ran.stdout) == (2, "")
        assert f"{out} cannot be written" in ran.stderr
        assert "no such table" not in ran.stderr
        assert ran.stderr.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "rows.jsonl"]


def broken(rollouts: list[Rollout]) -> list[float]:
    raise RuntimeError("no such table")


def test_a_reward_that_keeps_failing_stops_with_its_cause(reward: Callable[..., Ran], tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    rows = write(tmp_path / "r.jsonl", [{"completion": "no", "answer": None}] * 300)
    ran = reward("score", f"{__name__}:broken", rows, "--out", str(out))
    assert ran.status == 1
    assert "failed on 300 of its last 300 rollouts" in ran.stderr
    assert "RuntimeError: no such table" in ran.stderr
    assert not out.exists()


def test_list_and_show_say_what_there_is(reward: Callable[..., Ran]) -> None:
    listed = reward("list")
    assert listed.status == 0, listed.stderr
    assert "choice_match" in listed.stdout
    result = reward("show", "box_iou")
    assert "kind: Literal['iou', 'giou', 'diou', 'ciou'] = 'iou'" in result.stdout
    assert "The overlap of the first box" in result.stdout
    assert reward("show", "progressive").stdout.splitlines()[1:3] == [
        "  reward: reward",
        "  schedule: dict[float, reward]",
    ]
    assert "  judge: Judge\n" in reward("show", "judge").stdout
