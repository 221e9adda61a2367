"""bfloat16 on a CPU: prompts are shared although the last digits differ, and the run is finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.engines.base import Completions
from mmrl.grpo.shared_prefix.parity import agree, gap_of, gap_of_completions
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.training import tiny_policy


@pytest.mark.parametrize("way", ["weights", "autocast", "plain"])
def test_a_bfloat16_policy_trains(way: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    """Prompts are shared though rounding makes some of the sampled tokens others: weights in bfloat16, or autocast."""
    model, processor = tiny_policy(budget)
    dtype = torch.float32 if way == "autocast" else torch.bfloat16
    torch.nn.Module.to(model, dtype)
    before = next(model.parameters()).detach().clone()
    grpo: dict[str, Any] = {"num_generations": 8, "per_device_train_batch_size": 40, "max_completion_length": 64}
    grpo |= {"bf16": way == "autocast", "max_steps": 2}
    run = trainer(tmp_path, model, processor, mixed_samples, budget, shared_prefix=way != "plain", **grpo)
    run.train()
    losses = [line["loss"] for line in run.state.log_history if "loss" in line]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert before.dtype == next(model.parameters()).dtype == dtype
    assert not torch.equal(before, next(model.parameters()))
    assert (run.sharing.packing, run.sharing.prefix_cache) == ((way != "plain"),) * 2


def test_in_float32_every_log_prob_must_agree_and_in_half_precision_their_mean() -> None:
    plain_BC, valid_BC = torch.full((8, 512), -3.0), torch.ones(8, 512, dtype=torch.bool)
    one_off = plain_BC.clone()
    one_off[3, 100] += 0.3
    assert not agree(gap_of(one_off, plain_BC, valid_BC, half=False), half=False)
    assert agree(gap_of(one_off, plain_BC, valid_BC, half=True), half=True)
    first_off = plain_BC.clone()
    first_off[:, 0] += 2.0  # each completion's first token is predicted from the wrong place
    assert (first_off - plain_BC).mean() < 0.01
    assert not agree(gap_of(first_off, plain_BC, valid_BC, half=True), half=True)
    assert agree(gap_of(first_off, plain_BC, torch.zeros_like(valid_BC), half=False), half=False)  # all is padding


def test_completions_agree_as_far_as_their_tokens_do() -> None:
    """Tokens after the first difference are not compared: a sampled token may fall on the other side of a boundary."""
    plain = Completions([[5, 6, 7, 8], [5, 9]], [[-1.0, -2.0, -3.0, -4.0], [-1.0, -2.5]])
    other = Completions([[5, 6, 4], [5, 9]], [[-1.0, -2.0, -9.0], [-1.0, -2.5]])
    assert gap_of_completions(other, plain, half=False) == 0
    stale = Completions(plain.ids, [[-1.0, -2.0, -3.1, -4.0], [-1.0, -2.5]])
    assert gap_of_completions(stale, plain, half=False) == pytest.approx(0.1)
    unrelated = Completions([[1, 2], [3, 4]], [[-1.0, -1.0], [-1.0, -1.0]])
    assert gap_of_completions(unrelated, plain, half=True) == math.inf
    greedy = Completions(plain.ids, [[0.0] * 4, [0.0] * 2])
    assert gap_of_completions(greedy, greedy, half=False) == 0
    assert gap_of_completions(Completions(other.ids, [[0.0] * 3, [0.0] * 2]), greedy, half=True) == math.inf
