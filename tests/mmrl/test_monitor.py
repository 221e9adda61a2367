"""A training that goes wrong warns by thresholds, and stops with the batch at the first NaN."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_engine.schema import Sample
from mmrl.core.config import RunError
from mmrl.core.vision import VisionBudget
from mmrl.trainers.monitor import CollapseWarnings, Watch, signs
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.training import tiny_policy

WELL = {
    "frac_reward_zero_std": 0.2,
    "completions/clipped_ratio": 0.1,
    "entropy": 1.0,
    "completions/mean_length": 20.0,
    "reward": 0.5,
}
WATCH = Watch(window=4)


def run_of(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Four good steps, then four with each of `changes` in turn."""
    return [WELL] * 4 + [WELL | change for change in changes for _ in range(4)]


def test_a_sound_run_has_no_signs() -> None:
    assert signs(run_of({}), WATCH) == {}
    assert signs([WELL | {"entropy": 0.0}] * 3, WATCH) == {}  # less than a window gives no sign


@pytest.mark.parametrize(
    ("change", "sign", "text"),
    [
        ({"frac_reward_zero_std": 0.95}, "dead_groups", "95% of the groups"),
        ({"completions/clipped_ratio": 0.6}, "clipped", "60% of the completions"),
        ({"entropy": 0.001}, "entropy", "0.0010"),
        ({"completions/mean_length": 61.0}, "length_drift", "from 20 to 61 tokens"),
        ({"completions/mean_length": 6.0}, "length_drift", "from 20 to 6 tokens"),
        ({"pictures/constant": 0.6}, "collapsed", "of the pictures 60% show one colour"),
        ({"pictures/saturated": 0.6}, "collapsed", "of the pictures 60% are nearly all black"),
    ],
)
def test_each_sign_is_seen_alone_and_has_a_threshold(change: dict[str, Any], sign: str, text: str) -> None:
    raised = signs(run_of(change), WATCH)
    assert list(raised) == [sign]
    assert text in raised[sign]
    lax = Watch(window=4, dead_groups=1, clipped=1, entropy=0, length_drift=10, collapsed=1)
    assert signs(run_of(change), lax) == {}


def test_a_reward_that_rises_while_the_held_out_one_falls_is_called_hacking() -> None:
    hacked = [*run_of({}), {"eval_reward": 0.5}, *run_of({"reward": 0.9}), {"eval_reward": 0.4}]
    assert "rose by 0.4" in signs(hacked, WATCH)["hacking"]
    better = [*run_of({}), {"eval_reward": 0.5}, *run_of({"reward": 0.9}), {"eval_reward": 0.8}]
    assert signs(better, WATCH) == {}


def test_a_reward_that_rises_while_pictures_leave_the_real_ones_is_called_unreal() -> None:
    near, far = {"pictures/distance_to_real": 0.1}, {"pictures/distance_to_real": 0.16}
    hacked = run_of(near, far | {"reward": 0.9})[4:]
    assert "rose by 0.4" in signs(hacked, WATCH)["unreal"]
    assert "from 0.100 to 0.160" in signs(hacked, WATCH)["unreal"]
    assert signs(run_of(near, far)[4:], WATCH) == {}  # without a reward that rises it is no hacking
    assert signs(run_of(near, near | {"reward": 0.9})[4:], WATCH) == {}
    assert signs(hacked, Watch(window=4, distance_drift=2)) == {}


def test_a_warning_comes_once_a_window(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = tiny_policy(budget)
    run = trainer(tmp_path, model, processor, mixed_samples[:1], budget, max_steps=5)
    run.add_callback(CollapseWarnings(Watch(window=2, entropy=100.0, clipped=1, dead_groups=1, length_drift=1e6)))
    with caplog.at_level(logging.WARNING, logger="mmrl.trainers.monitor"):
        run.train()
    steps = [record.getMessage().split(":")[0] for record in caplog.records if "watch.entropy" in record.getMessage()]
    assert steps == ["step 2", "step 4"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_and_keeps_its_batch(
    where: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    run = trainer(tmp_path, model, processor, mixed_samples[:2], budget, max_steps=3)
    weight: Any = next(iter(run.model.parameters()))
    if where == "loss":
        run.reward_weights = torch.tensor([float("inf"), 1.0])
        run.advantages.estimation.estimator = lambda rewards_PGK, weights_K, **_: rewards_PGK.sum(-1) * weights_K[0]
    else:
        weight.register_hook(lambda grad: grad * float("nan"))
    before = weight.detach().clone()
    with pytest.raises(RunError, match=rf"step 1: the {where} is not finite; the batch is in .*nan-step-00001"):
        run.train()
    torch.testing.assert_close(weight.detach(), before)
    batch = load_file(tmp_path / "nan-step-00001" / "batch.safetensors")
    rows = [json.loads(line) for line in (tmp_path / "nan-step-00001" / "rows.jsonl").read_text().splitlines()]
    assert len(batch["completion_ids"]) == len(rows) == 4
    assert "digits" in rows[0]["prompt"] + rows[-1]["prompt"] or "new" in rows[0]["prompt"]
