"""docs/rewards.md names every reward with the options it has, and what it prints runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmrl.core.config import InputError
from mmrl.core.registry import options_of
from rewards import Rollout, get
from rewards.registry import REWARDS, function_of

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)`(?: \[([^\]]*)\])? \|", PAGE, re.MULTILINE))


def test_the_tables_have_every_registered_reward_with_its_options() -> None:
    documented = {name: set(ROWS[name].split(", ")) - {""} for name in REWARDS if name in ROWS}
    assert documented == {name: set(options_of(function_of(name)).model_fields) for name in REWARDS}


def test_the_reward_of_ones_own_works_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.split("## Your own")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "printed_reward.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    said = [Rollout("x" * 200), Rollout("x" * 300), Rollout("x" * 500)]
    assert [verdict.score for verdict in get("printed_reward:brevity")(said)] == [1, 0.5, 0]
    assert get("printed_reward:brevity", limit=500)(said)[2].score == 1
    with pytest.raises(InputError, match="limit"):
        get("printed_reward:brevity", limit="many")
