"""A training whose weights, gradients or scores are no longer finite stops before it uses or saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Sampling
from mmrl.core.config import InputError, RunError, load
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import encode
from mmrl.model.sampling import RowSampler
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.final import save_final
from mmrl.trainers.finite import not_finite
from tests.mmrl.grpo.test_trainer import trainer
from tests.mmrl.test_sft import trainer as warm_up
from tests.support.training import config, material, tiny_policy


def spoilt(model: Any) -> Any:
    """The model with a weight that is not a number."""
    with torch.no_grad():
        model.get_output_embeddings().weight[:, 2] = float("nan")
    return model


@pytest.mark.parametrize(
    ("rate", "where"),
    [
        (1e18, "the loss|the gradient"),
        (1e39, "a weight after the step, at learning_rate=1e.39,"),
    ],
)
def test_a_warm_up_that_overflows_stops_and_saves_nothing(
    rate: float, where: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    run = warm_up(tmp_path, mixed_samples, budget, learning_rate=rate, max_steps=9, save_strategy="steps", save_steps=1)
    with pytest.raises(RunError, match=rf"step \d: ({where}) is not finite; the batch is in .*nan-step-0000\d"):
        run.train()
    (place,) = tmp_path.glob("nan-step-*")
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(mixed_samples)
    assert all("<answer>" in row["completion"] and "<answer>" not in row["prompt"] for row in rows)
    for checkpoint in tmp_path.glob("checkpoint-*"):
        saved = type(run.model).from_pretrained(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
        assert not_finite(saved.named_parameters()) == []


@pytest.mark.parametrize(
    ("rate", "steps", "message"),
    [
        (1e39, 1, r"step 1: a weight after the step, at learning_rate=1e\+39, is not finite; the batch is in"),
        (1e30, 3, "scores of the next token are not finite"),
    ],
)
def test_a_policy_that_overflows_is_no_final_model(rate: float, steps: int, message: str, tmp_path: Path) -> None:
    world = material(tmp_path / "world", "ti")
    grpo = {"max_steps": steps, "learning_rate": rate, "per_device_train_batch_size": 4}
    place = config(world, tmp_path / "run.yaml", grpo=grpo)
    with pytest.raises(RunError, match=message):
        train(load(TrainConfig, place))
    assert not (tmp_path / "run" / "final").exists()
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_weights_that_are_not_finite_are_neither_trained_nor_saved(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    run = trainer(tmp_path, spoilt(model), processor, mixed_samples[:2], budget, max_steps=1)
    with pytest.raises(InputError, match=r"the weights to start from are not finite: \S+ \(\d tensors\); train from"):
        run.train()
    with pytest.raises(RunError, match=r"the trained weights are not finite: .* nothing was saved"):
        save_final(run, processor, tmp_path / "final", encode(processor, mixed_samples[0].prompt, (), budget))
    assert not (tmp_path / "final").exists()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("values", [[float("nan"), 1.0], [float("inf"), 1.0], [-float("inf"), -float("inf")]])
def test_no_token_is_chosen_from_scores_that_are_not_finite(values: list[float], temperature: float) -> None:
    sampler = RowSampler([(0,), (1,)], max_new_tokens=2, temperature=temperature)
    sampler(None, torch.tensor([[1.0, -float("inf")], [0.0, 2.0]]))  # a banned token is fine
    with pytest.raises(RunError, match="scores of the next token are not finite"):
        sampler(None, torch.tensor([[1.0, 2.0], values]))


def test_an_evaluation_does_not_answer_with_weights_that_are_not_finite(
    mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = tiny_policy(budget)
    generator = LocalGenerator(spoilt(model), processor, budget=budget, sampling=Sampling(max_new_tokens=2))
    with pytest.raises(RunError, match="are not finite"):
        generator([Draw(mixed_samples[0], 0)])


def test_finite_weights_of_any_size_and_empty_ones_are_fine() -> None:
    weights = {"large": torch.full((9,), 6e4, dtype=torch.float16), "none": torch.zeros(0), "ids": torch.arange(3)}
    assert not_finite(weights.items()) == []
    broken = torch.tensor([1.0, float("inf")], dtype=torch.bfloat16)
    assert not_finite([*weights.items(), ("broken", broken)]) == ["broken"]
