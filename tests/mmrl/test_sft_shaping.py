"""The reward-shaped cross-entropy: the numbers of its notes, and a warm-up that learns by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.token_losses import Shaping, shaped_cross_entropy
from tests.support.training import config, material, metrics

LOGITS = torch.tensor([[0.60, 0.25, 0.10, 0.05]]).log()
SFT = {"max_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "save_strategy": "no"}


def plain(**changes: Any) -> Shaping:
    return Shaping(**{"beta": 0.0, **changes})


@pytest.mark.parametrize(
    ("target", "beta", "loss"),
    [
        (0, 0.0, 0.5108256),
        (0, 0.5, 0.3230745),
        (0, 1.0, 0.2043302),
        (0, -0.25, 0.6423292),
        (2, 0.5, 2.1844240),
        (2, -0.25, 2.3640413),
    ],
)
def test_the_loss_of_a_token(target: int, beta: float, loss: float) -> None:
    assert shaped_cross_entropy(LOGITS, torch.tensor([target]), plain(beta=beta)).item() == pytest.approx(
        loss, abs=1e-5
    )


@pytest.mark.parametrize(
    ("shaping", "gradient"),
    [
        (plain(), [-0.4, 0.25, 0.1, 0.05]),
        (plain(beta=-0.25), [-0.5029734, 0.3143584, 0.1257433, 0.0628717]),
        (plain(k=2, tail=-0.1), [-0.409, 0.24625, 0.1085, 0.05425]),
        (plain(k=2, top=0.1, tail=-0.1), [-0.394, 0.2275, 0.111, 0.0555]),
    ],
)
def test_the_gradient_of_the_logits(shaping: Shaping, gradient: list[float]) -> None:
    logits = LOGITS.clone().requires_grad_()
    shaped_cross_entropy(logits, torch.tensor([0]), shaping).sum().backward()
    assert_close(logits.grad, torch.tensor([gradient]), atol=1e-5, rtol=0)


def test_a_token_that_is_sure_has_a_finite_weight() -> None:
    loss = shaped_cross_entropy(torch.tensor([[100.0, 0.0]]), torch.tensor([0]), plain(beta=-1.0))
    assert bool(loss.isfinite().all())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return material(tmp_path_factory.mktemp("world"), "tivp")


def losses(world: Path, place: Path, **changes: Any) -> list[float]:
    train(load(TrainConfig, config(world, place, sft=SFT, grpo=None, **changes)))
    return [line["loss"] for line in metrics(place.with_suffix("") / "sft")]


def test_without_shaping_it_is_the_usual_loss_and_with_it_another(world: Path, tmp_path: Path) -> None:
    """Over batches of several lengths that are accumulated, with pictures and a clip."""
    usual = losses(world, tmp_path / "usual.yaml")
    same = losses(world, tmp_path / "same.yaml", sft_shaping={"beta": 0.0})
    surer = losses(world, tmp_path / "surer.yaml", sft_shaping={"beta": -0.25})
    assert same == pytest.approx(usual, rel=1e-4)
    assert surer[0] > usual[0] * 1.0001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft": None}, "sft_shaping is the loss of the stage sft, which the config does not have"),
        ({"sft": {**SFT, "loss_type": "dft"}}, "next to sft.loss_type=dft"),
        ({"sft": {**SFT, "label_smoothing_factor": 0.1}}, "sft.label_smoothing_factor=0.1; leave out one of them"),
    ],
)
def test_another_loss_is_refused(changes: Any, message: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", sft_shaping={"beta": -0.25}, **changes)))
