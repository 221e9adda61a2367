"""bfloat16 weights on a CPU: prompts are shared if the numbers allow it, and the run is finite."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from data_engine.schema import Sample
from mmrl.tiny import tiny_model
from mmrl.vision import VisionBudget, apply_budget
from tests.conftest import TEXTS
from tests.test_trainer import trainer


@pytest.mark.parametrize("shared", [True, False])
def test_a_bfloat16_policy_trains(
    shared: bool, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    apply_budget(processor, budget)
    model.bfloat16()
    before = next(model.parameters()).detach().clone()
    run = trainer(tmp_path, model, processor, mixed_samples, budget, shared_prefix=shared, max_steps=2)
    run.train()
    losses = [line["loss"] for line in run.state.log_history if "loss" in line]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert before.dtype == next(model.parameters()).dtype == torch.bfloat16
    assert not torch.equal(before, next(model.parameters()))
