"""Schedules of the sampling temperature, and log-probs under the temperature that each token was sampled with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.grpo.config_checks import check_settings
from mmrl.grpo.temperature import TemperatureSchedule, annealed, cosine, tempered
from mmrl.grpo.trainer import MultimodalGRPOTrainer
from mmrl.model.sampling import RowSampler
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import Recording, logits_alone, trainer
from tests.support.training import tiny_policy

EAD = TemperatureSchedule(schedule="ead", d0=5, head=2, growth=5)


def test_vectors_of_the_paper() -> None:
    tokens = np.array([0, 100, 300, 400])
    assert_close(annealed(tokens, 0, head=0), np.array([1.2, 0.9785972, 0.3778812, 0.1]), atol=1e-6, rtol=0)
    assert annealed(tokens, 0)[0] == 1.0
    assert annealed(np.array([400]), 100)[0] == pytest.approx(0.7081753, abs=1e-6)  # d = 500 + 5 * 100
    assert annealed(np.array([400]), 100, d0=500, growth=100)[0] == pytest.approx(1.1611698, abs=1e-6)  # as released
    assert annealed(np.array([10**9]), 0)[0] == 0.1  # nothing overflows
    assert annealed(np.array([400]), 10**9)[0] == annealed(np.array([400]), 10**6)[0]  # d stops growing


def test_a_cosine_spans_the_training() -> None:
    schedule = TemperatureSchedule(schedule="cosine", start=1.2, end=0.8)
    assert schedule.temperatures(3, 0, 11) == [1.2] * 3
    assert schedule.temperatures(2, 10, 11) == pytest.approx([0.8] * 2)
    assert cosine(5, 1, start=1.2, end=0.8) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "values", [{"schedule": "ead", "start": 0.5}, {"schedule": "cosine", "head": 3}, {"schedule": "ead", "t_min": 0}]
)
def test_options_of_another_schedule_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TemperatureSchedule(**values)


def test_a_fixed_temperature_next_to_a_schedule_is_refused(tmp_path: Path) -> None:
    from trl.trainer.grpo_config import GRPOConfig

    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, temperature=0.7)
    with pytest.raises(InputError, match=r"grpo.temperature=0.7 and rollout.temperature are both given"):
        check_settings(args, "gdpo", EAD)


def test_tokens_are_sampled_under_their_own_temperature() -> None:
    rows = 4000
    sampler = RowSampler([(0, row) for row in range(rows)], max_new_tokens=2, temperature=[1.0, 0.25])
    scores = torch.tensor([[0.0, 0.5]]).expand(rows, 2)
    shares = [float((sampler(None, scores)[:, 1] == 0).float().mean()) for _ in range(2)]
    expected = [float(torch.tensor([0.5]).sigmoid()), float(torch.tensor([2.0]).sigmoid())]
    assert shares == pytest.approx(expected, abs=0.03)


def tempered_alone(model: Any, row: Any, completion: torch.Tensor, temperatures: torch.Tensor) -> torch.Tensor:
    """Log-probs of a completion under a temperature per token, from one plain forward."""
    logits = logits_alone(model, row, completion) / temperatures[: len(completion), None]
    return logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "idefics3"])
def test_log_probs_are_under_the_temperatures_of_the_sampling(
    architecture: str, shared_prefix: bool, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    samples = [s for s in mixed_samples if architecture != "idefics3" or all(m.kind == "image" for m in s.media)]
    grpo = {
        "per_device_train_batch_size": len(samples),
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "num_generations": 4,
        "max_steps": 4,  # two generations, at steps 0 and 2, each learned from in two steps
        "learning_rate": 1e-8,
    }
    if shared_prefix:
        grpo["pad_to_multiple_of"] = 16  # completions have eight tokens at most
    run = trainer(tmp_path, model, processor, samples, budget, shared_prefix=shared_prefix, temperature=EAD, **grpo)
    plain, _ = tiny_model(architecture, TEXTS)
    run.train()
    assert (run.sharing.packing, run.sharing.prefix_cache) == (shared_prefix, shared_prefix)
    generation = -1
    for rows, input_ids, mask, keep, logps in run.seen:
        generation += len(rows) == 4 * len(samples)  # the old log-probs of the whole batch come first
        temperatures = torch.tensor(EAD.temperatures(8, 2 * generation, 4))
        for row, ids, valid, got in zip(rows, input_ids, mask, logps, strict=True):
            length = int(valid[-keep:].sum())
            expected = tempered_alone(plain, row, ids[-keep:][:length], temperatures)
            assert_close(got[:length], expected, atol=1e-4, rtol=0)
    assert generation == 1


def test_gradients_flow_through_the_temperature() -> None:
    model: Any = tiny_model("qwen2_5_vl", TEXTS)[0]
    ids = torch.tensor([[5, 6, 7, 8]])
    divisors = torch.tensor([[1.0, 0.5, 2.0, 1.0]])
    with tempered(model, divisors):
        warm = model(input_ids=ids).logits
    assert_close(warm, model(input_ids=ids).logits / divisors[..., None])
    warm.logsumexp(-1).sum().backward()
    assert model.get_output_embeddings().weight.grad is not None


def test_a_schedule_of_ones_changes_nothing(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    losses = []
    for name, schedule in (("none", None), ("ones", TemperatureSchedule(schedule="cosine"))):
        model, processor = tiny_policy(budget)
        run: MultimodalGRPOTrainer = trainer(
            tmp_path / name, model, processor, mixed_samples, budget, kind=Recording, temperature=schedule, max_steps=2
        )
        run.train()
        losses.append([line["loss"] for line in run.state.log_history if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)
