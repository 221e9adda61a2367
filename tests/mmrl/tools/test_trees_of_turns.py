"""Groups as trees with tools: branches have their first call and its result in common, and go on by themselves."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.callers import calling_material
from tests.support.scripted import call
from tests.support.training import config, metrics, rollouts, trained


def test_branches_have_their_first_call_in_common(tmp_path: Path) -> None:
    world = calling_material(tmp_path / "world", "it", call("crop", box=[0, 0, 28, 28]), ["crop"])
    grpo = {"max_completion_length": 160, "num_generations": 4, "per_device_train_batch_size": 8, "max_steps": 1}
    rollout = {"tools": ["crop"], "max_turns": 2, "tree": {"after": "</tool_call>", "branches": 2}}
    tokens = {"tokens": {"sibling": {"whole_branch": True}}}
    place = config(world, tmp_path / "run.yaml", grpo=grpo, rollout=rollout, advantages=tokens)
    out = trained(place)
    (rows,) = rollouts(out).values()
    assert [row["branch_of"] for row in rows] == [0, 0, 2, 2] * 2
    branching = [(row, rows[place - 1]) for place, row in enumerate(rows) if row["branch_after"]]
    assert len(branching) >= 2
    for row, other in branching:
        first, same = (json.loads(one["turns"])[0] for one in (row, other))
        assert first["calls"][0] == same["calls"][0]
        assert row["branch_after"] < row["tokens"]
    (line,) = metrics(out)
    assert line["tree/branches"] == len(branching) / 8
    assert line["tools/ok"] > 0
