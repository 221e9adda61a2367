"""What holds of every pipeline as a policy: densities are replayed, texts are seen, what it learned is in its end."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from eval.config import EvalConfig
from eval.records import Record
from eval.run import run
from mmrl.core.config import validate
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.process import at
from mmrl.model.flow.sampling import replayed, sampled
from tests.support.training import metrics

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def assert_takes(function: Any, names: str) -> None:
    assert set(names.split()) <= inspect.signature(function).parameters.keys()


def assert_replayed(policy: PicturePolicy, condition: Any) -> None:
    """Densities of steps that are looked at again are those of the steps that were drawn."""
    draws = torch.Generator().manual_seed(2)
    drawn = sampled(policy, condition, policy.noise(condition, draws), policy.times(3, condition), generator=draws)
    for place, step in enumerate(replayed(policy, condition, drawn, [0, 1, 2])):
        assert torch.allclose(step.log_density_N, drawn.drawn_TN[place], atol=1e-5)


def assert_text_is_seen(policy: PicturePolicy, first: Any, second: Any) -> None:
    """Two conditions of one sample each, with different texts, give different velocities."""
    noise = policy.noise(first, torch.Generator().manual_seed(0))
    one, other = (policy.velocity(noise, at(0.5, noise), condition) for condition in (first, second))
    assert not torch.allclose(one, other, atol=1e-5)


def assert_learned(before: Path, final: Path, *on_card: str) -> None:
    """Two steps were logged, the network has changed weights under their old names, and the card has some words."""
    assert len(metrics(final.parent)) == 2
    old, new = (load_file(place / WEIGHTS) for place in (before, final))
    assert new.keys() == old.keys()
    assert any(not torch.equal(value, old[name]) for name, value in new.items())
    card = (final / "README.md").read_text()
    assert all(words in card for words in on_card)


def evaluated(model: Path, data: Path, out: Path, rewards: dict[str, Any], **flow: Any) -> list[Record]:
    """The records of two prompts of the split `train`, each answered in two steps."""
    values = {"engine": "flow", "model": str(model), "out": str(out), "flow": {"steps": 2, **flow}, "rewards": rewards}
    values["data"] = {"path": str(data), "split": "train", "limit": 2}
    return run(validate(EvalConfig, values, where="test"))
