"""A tiny checkpoint and a server of it that speaks vLLM's protocol, for all tests of the engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.engine.client import Client
from mmrl.engine.remote import VllmEngine
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from mmrl.model.loading import load_checkpoint
from tests.conftest import TEXTS
from tests.support.engine_server import serving


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2.5-VL."""
    from mmrl.model.tiny_twins import TinySize, tiny_model

    place = tmp_path_factory.mktemp("engine") / "model"
    for part in tiny_model("qwen2_5_vl", TEXTS, size=TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)):
        part.save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def policy(checkpoint: Path, budget: Any) -> tuple[Any, Any]:
    """The model and the processor of the checkpoint in this process."""
    from mmrl.core.vision import apply_budget

    model, processor = load_checkpoint(checkpoint, dtype="float32")
    apply_budget(processor, budget)
    return model, processor


@pytest.fixture(scope="session")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The server; a test that disturbs it puts it right."""
    with serving(checkpoint, tmp_path_factory.mktemp("log") / "engine.log") as client:
        yield client


@pytest.fixture
def server(running: Client) -> Iterator[Client]:
    """The server, undisturbed."""
    yield running
    running.told("disturb")


def engine_at(client: Client, checkpoint: Path, tmp_path: Path, **changes: Any) -> VllmEngine:
    """An engine that asks a running server."""
    settings = {"base_url": client.address, "exchange": tmp_path / "exchange", "deadline": 30, "start_deadline": 3}
    served = {
        "checkpoint": checkpoint,
        "model_type": "qwen2_5_vl",
        "dtype": "float32",
        "vocabulary": vocabulary(checkpoint),
    }
    own = {
        name: changes.pop(name) for name in list(changes) if name in ("dtype", "vocabulary", "model_type", "lora_rank")
    }
    return VllmEngine(
        VllmSettings.model_validate(settings | changes), Served(**served | own), tmp_path / "engine.log", cpu=True
    )


def vocabulary(checkpoint: Path) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(checkpoint).get_text_config().vocab_size)


def adapted_anew(policy: tuple[Any, Any], seed: int) -> tuple[Any, Any]:
    """The policy with adapters of random weights."""
    from mmrl.model.policy import LoraSettings, adapted

    model = adapted(copy.deepcopy(policy[0]), lora=LoraSettings(r=4))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn_like(parameter)
    return model, policy[1]
