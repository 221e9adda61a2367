"""The moving average of the weights: how it follows them, and that it is what a run gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch import nn

from data_engine.dataset.shards import write_dataset
from data_engine.sources.editing.edit_pairs import edits
from mmrl.core.config import load
from mmrl.flow.networks import Networks, average_decay
from mmrl.model.flow.kontext import KontextPolicy
from mmrl.model.flow.loading import adapted_editor
from mmrl.model.policy import LoraSettings
from mmrl.model.tiny_editors import tiny_kontext
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train

CHECKPOINT = "checkpoint-{}/model.safetensors"


@pytest.mark.parametrize("limit", [0.3, 0.9])
def test_from_its_second_step_on_it_follows_as_that_of_diffusers(limit: float) -> None:
    network = nn.Linear(3, 2)
    networks, theirs = Networks(network, averaged=True), EMAModel(network.parameters(), decay=limit)
    theirs.step(network.parameters())  # copies, so both begin with the same weights
    for steps in range(2, 40):
        for weight in network.parameters():
            weight.data += torch.randn(weight.shape, generator=torch.Generator().manual_seed(steps))
        networks.move_average(average_decay(steps, limit))
        theirs.step(network.parameters())
    for mine, other, weight in zip(networks.average, theirs.shadow_params, network.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
        assert not torch.allclose(mine, weight, atol=0.1)


def test_within_it_the_network_has_the_average_and_afterwards_its_own_weights() -> None:
    networks = Networks(nn.Linear(3, 2), averaged=True)
    before = networks.trained.weight.detach().clone()
    networks.trained.weight.data += 1
    own = networks.trained.weight.detach().clone()
    with networks.averaged():
        assert torch.equal(networks.trained.weight, before)
    assert torch.equal(networks.trained.weight, own)


def test_of_adapters_alone_there_is_an_average_if_they_alone_learn() -> None:
    policy = KontextPolicy(tiny_kontext(["blur it"]))
    policy.transformer.requires_grad_(True)
    adapted_editor(policy, LoraSettings(r=2, alpha=4))
    adapters = [name for name, _ in policy.transformer.named_parameters() if "lora" in name]
    assert 0 < len(adapters) == len(Networks(policy.transformer, averaged=True).average)


@pytest.mark.parametrize("algorithm", ["crd", "consistency"])
def test_a_run_ends_with_the_average_of_its_weights(tmp_path: Path, algorithm: str) -> None:
    write_dataset(edits(n=4, side=8, changes=["red"]), tmp_path / "data")
    tiny_kontext(["tint it red"]).save_pretrained(tmp_path / "model")
    flow: dict[str, Any] = {"algorithm": algorithm, "use_cpu": True, "learning_rate": 1e-2, "sampling_steps": 2}
    flow |= {"num_generations": 2} if algorithm == "crd" else {}
    flow |= {"max_steps": 4, "save_steps": 1, "per_device_train_batch_size": 2, "ema_decay": 0.25, "ema_steps": 2}
    reward = "tests.mmrl.flow.test_training:bright" if algorithm == "crd" else "edit_match"
    values = {name: str(tmp_path / name) for name in ("model", "data", "output")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**values, "rewards": {"m": {"fn": reward}}, "flow": flow}))
    final = train(load(TrainConfig, tmp_path / "run.yaml"))
    saved = "transformer/diffusion_pytorch_model.safetensors"
    average, given = load_file(tmp_path / "model" / saved), load_file(final / saved)
    for step, kept in ((2, 2 / 11), (4, 0.25)):
        weights = load_file(final.parent / CHECKPOINT.format(step))
        average = {name: kept * mine + (1 - kept) * weights[f"trained.{name}"] for name, mine in average.items()}
    assert all(torch.allclose(given[name], mine, atol=1e-6) for name, mine in average.items())
    assert any(not torch.allclose(given[name], weights[f"trained.{name}"], atol=1e-4) for name in given)
