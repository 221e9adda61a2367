"""The table of answers: what is right earns 1, what is wrong does not, an unreadable gold gives no verdict."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rewards import Reward, Rollout, get

TABLE = Path(__file__).parent.parent / "data" / "answers.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]


@cache
def reward_of(name: str, params: str) -> Reward:
    return get(name, **json.loads(params))


@pytest.mark.parametrize("reward", sorted({case["reward"] for case in CASES}))
def test_right_answers_earn_and_wrong_ones_do_not(reward: str) -> None:
    wrong = []
    for case in CASES:
        if case["reward"] == reward:
            score_of = reward_of(reward, json.dumps(case.get("params", {})))
            (verdict,) = score_of([Rollout(case["completion"], case["gold"])])
            earned = None if verdict.score is None else int(verdict.score > 1 - 1e-6)
            if earned != case["score"]:
                wrong.append((case["why"], case["gold"], case["completion"], case["score"], verdict))
    assert not wrong, "\n".join(map(str, wrong))


def test_the_table_has_cases_of_all_kinds() -> None:
    assert len(CASES) >= 400
    assert len({json.dumps([case["reward"], case["gold"], case["completion"]]) for case in CASES}) == len(CASES)
    assert {"en", "de", "fr", "es", "zh", "ja", "ko", "ru"} <= {case["language"] for case in CASES}
    assert all(counts >= 10 for counts in Counter(case["reward"] for case in CASES).values())
    for reward in {case["reward"] for case in CASES}:  # right ones and wrong ones, so that neither yes nor no passes
        assert {0, 1} <= {case["score"] for case in CASES if case["reward"] == reward}, reward
