"""Rollouts with tools and pictures are those of TRL: the same calls, results, rewards, losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from benchmarks.peers.tool_turns import Turns, ours, peer
from mmrl.model.tiny_twins import TinySize


@pytest.mark.parametrize("picture", [False, True], ids=["texts", "pictures"])
def test_a_step_with_tools_is_that_of_trl(picture: bool, tmp_path: Path) -> None:
    case, steps = Turns(4, 16, new_tokens=8, picture=picture), []
    for made in (ours, peer):
        trainer: Any = made(case, tmp_path, TinySize(), max_steps=1)
        trainer.train()
        steps.append(
            [[line[name] for name in ("reward", "loss", "grad_norm")] for line in trainer.state.log_history[:1]]
        )
        calls = [line.get("tools/calls", line.get("tools/call_frequency")) for line in trainer.state.log_history[:1]]
        assert min(calls) > 0.5
    assert_close(*steps, atol=1e-4, rtol=1e-3)
