"""A process reward scores each turn, and each turn's tokens get the advantage of that turn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.advantages.steps import renormed, step_advantages
from mmrl.core.vision import VisionBudget
from mmrl.grpo.credit import Credit
from tests.mmrl.grpo.test_credit import Keeping
from tests.mmrl.grpo.test_trainer import trainer
from tests.mmrl.tools.test_turn_log_probs import TOOLS, says
from tests.support.scripted import scripted
from tests.support.training import tiny_policy

HERE = "tests.mmrl.tools.test_steps_of_turns:"
SUITE = {"calls": {"fn": "each_step", "args": {"reward": {"fn": HERE + "calls"}}}, "long": {"fn": HERE + "long"}}
CALLS = [[1.0, 1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0]]  # of each turn of each rollout, as `says` has them


def calls(rollouts: Any) -> list[float]:
    """1 for a step that calls."""
    return [float("<tool_call>" in rollout.completion) for rollout in rollouts]


def long(rollouts: Any) -> list[float]:
    """1 for a rollout of three turns."""
    return [float(len(rollout.turns) == 3) for rollout in rollouts]


def kept(samples: list[Sample], budget: VisionBudget, out: Path, **steps: Any) -> dict[str, Any]:
    model, processor = tiny_policy(budget)
    options: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4, "max_completion_length": 600}
    options |= {"credit": Credit.model_validate({"steps": {"reward": "calls"} | steps}), "suite": SUITE}
    run = trainer(out, model, processor, [samples[1]], budget, kind=Keeping, tools=TOOLS, **options)
    scripted(run, says)
    run.train()
    return run.kept


def assert_turns_get(kept: dict[str, Any], wanted: list[Any], base: torch.Tensor) -> None:
    for row, (own, valid) in enumerate(zip(kept["tool_mask"], kept["completion_mask"], strict=True)):
        places = itertools.groupby(range(int(valid.sum())), key=lambda place, own=own: bool(own[place]))
        turns = [list(run) for mine, run in places if mine]
        assert len(turns) == len(wanted[row])
        for run, value in zip(turns, wanted[row], strict=True):
            expected = base[row] + torch.full((len(run),), float(value))
            assert_close(kept["per_token"][row, run], expected, atol=1e-5, rtol=1e-5)


def test_each_turn_gets_its_own_advantage(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    found = kept(mixed_samples, budget, tmp_path, weight=0.5)
    wanted = [0.5 * steps for steps in step_advantages([np.array(scores) for scores in CALLS])]
    assert_turns_get(found, wanted, found["advantages"])


def test_with_an_outcome_the_advantages_of_turns_stand_alone(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    found = kept(mixed_samples, budget, tmp_path, outcome="long", to_go=True)
    rewards = [renormed(np.array(scores), float(len(scores) == 3)) for scores in CALLS]
    assert_turns_get(found, step_advantages(rewards, to_go=True), torch.zeros(4))
