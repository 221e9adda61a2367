"""The algorithm `consistency`: conditions read from predicted pictures get nearer, and runs can be stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageFilter
from safetensors.torch import load_file

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from data_engine.sources.editing.conditions import conditions
from mmrl.core.config import InputError, load
from mmrl.demo.editor.steps import CHECKPOINT
from mmrl.flow.arguments import FlowArguments
from mmrl.flow.trainer import ConsistencyTrainer, FlowTrainer
from mmrl.model.flow.loading import load_editor
from mmrl.model.flow.pictures import condition_of, opened, row_of
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.process import at, clean_from, noised
from mmrl.model.tiny_editors import tiny_kontext
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.train.stages import run as train
from mmrl.trainers.dataset import as_dataset
from rewards import Suite
from rewards.rules.conditions import edges
from tests.support.training import metrics, trained

ASKED = "blur it"
EDGES = {"edges": {"fn": "condition_match", "args": {"extractor": "edges"}}}
FLOW: dict[str, Any] = {
    **{"use_cpu": True, "algorithm": "consistency", "options": {"times": 2}, "logging_steps": 1, "learning_rate": 1e-3},
    **{"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "sampling_steps": 2},
}


def detached(pixels: torch.Tensor) -> torch.Tensor:
    return edges(pixels).detach()


def photographs(n: int, side: int, split: Any = "train") -> list[Sample]:
    made = conditions(n=n, side=side, split=split, text=ASKED)
    return [replace(sample, id=str(number)) for number, sample in enumerate(made)]


def condition_errors(policy: PicturePolicy, samples: list[Sample], time: float) -> tuple[float, float]:
    """The mean squared errors of edges, by the extractor that is trained on and by Pillow's own, of what is predicted
    of photographs at a time."""
    condition = condition_of(policy, [row_of(sample) for sample in samples])
    photos = opened([sample.media[1] for sample in samples])
    clean = policy.latents(photos, condition)
    noise = policy.noise(condition, torch.Generator().manual_seed(0))
    times = at(time, clean)
    with torch.no_grad():
        noisy = noised(clean, noise, times)
        made = policy.pictures(clean_from(noisy, policy.velocity(noisy, times, condition), times), condition)
    errors = []
    for read in (lambda picture: edges(pixels(picture)), lambda picture: pixels(found(picture))):
        errors.append(np.mean([np.square(read(m) - read(p)).mean() for m, p in zip(made, photos, strict=True)]))
    return float(errors[0]), float(errors[1])


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), float).transpose(2, 0, 1)[None] / 255


def found(picture: Image.Image) -> Image.Image:
    return picture.convert("L").filter(ImageFilter.FIND_EDGES)


def test_the_condition_error_falls_further_than_by_flow_matching_alone(tmp_path: Path) -> None:
    learned, held_out = as_dataset(photographs(200, 16)), photographs(64, 16, "test")
    errors = {"before": condition_errors(load_editor(CHECKPOINT), held_out, 0.2)}
    for weight in (1e-9, 300.0):
        policy = load_editor(CHECKPOINT)
        args = FlowArguments(
            str(tmp_path), use_cpu=True, report_to="none", save_strategy="no", algorithm="consistency", max_steps=60,
            options={"weight": weight, "times": 4}, per_device_train_batch_size=4, learning_rate=3e-4,
            disable_tqdm=True,
        )  # fmt: skip
        ConsistencyTrainer(policy, rewards=Suite(EDGES), args=args, train_dataset=learned).train()
        errors[f"weight {weight:g}"] = condition_errors(policy, held_out, 0.2)
    for before, plain, consistent in zip(*errors.values(), strict=True):
        assert consistent < plain < before
    assert errors["weight 300"][0] < 0.95 * errors["weight 1e-09"][0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of photographs with their edges, and a tiny pipeline with random weights."""
    out = tmp_path_factory.mktemp("world")
    write_dataset(photographs(12, 8), out / "data")
    tiny_kontext([ASKED]).save_pretrained(out / "model")
    return out


def config(world: Path, place: Path, *, flow: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A config in `place` with its output next to it."""
    values = {"model": str(world / "model"), "data": str(world / "data"), "output": str(place.with_suffix(""))}
    place.write_text(yaml.safe_dump({**values, "rewards": EDGES, "flow": FLOW | (flow or {}), **changes}))
    return place


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final" / "transformer" / "diffusion_pytorch_model.safetensors")


def test_a_killed_run_ends_as_an_undisturbed_one(world: Path, tmp_path: Path) -> None:
    whole = trained(config(world, tmp_path / "whole.yaml"))
    broken = config(world, tmp_path / "broken.yaml")
    trained(broken, dies=True, DIE_OPENING=".saving/checkpoint-4/trainer_state.json")
    out = trained(broken)
    assert metrics(out) == metrics(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(out).items())
    assert not (out / "rollouts").exists()
    lines = [line for line in metrics(out) if line["consistency/early"] > 0]
    assert lines
    assert all(0 < line["reward"] == line["rewards/edges/mean"] <= 1 for line in lines)


def test_what_is_read_counts_at_early_times_alone(world: Path, tmp_path: Path) -> None:
    never = {"max_steps": 2, "options": {"times": 2, "latest": 1e-6, "weight": 1e3}}
    plain = train(load(TrainConfig, config(world, tmp_path / "never.yaml", flow=never))).parent
    assert all("reward" not in line for line in metrics(plain))
    always = {"max_steps": 2, "options": {"times": 2, "latest": 1.0, "weight": 1e3}}
    read = train(load(TrainConfig, config(world, tmp_path / "always.yaml", flow=always))).parent
    assert {line["consistency/early"] for line in metrics(read)} == {1.0}
    assert metrics(read)[0]["consistency/flow_matching"] == metrics(plain)[0]["consistency/flow_matching"]
    assert any(not torch.allclose(value, weights(plain)[name], atol=1e-6) for name, value in weights(read).items())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "reward": (
        {"rewards": {"judged": {"fn": "content_match"}}},
        "rewards.judged: content_match has no gradient for consistency to follow, which edit_match",
    ),
    "own reward": (
        {"rewards": {"mine": {"fn": "tests.support.training:letters"}}},
        "rewards.mine: tests.support.training:letters has no gradient for consistency",
    ),
    "option": ({"flow": {"options": {"latests": 1}}}, "flow.options of consistency: unknown key latests"),
    "latest": ({"flow": {"options": {"latest": 200}}}, "latest"),
    "group": ({"flow": {"num_generations": 3}}, "flow.num_generations is about pictures that a policy makes"),
    "pictures": ({"flow": {"save_pictures_steps": 1}}, "flow.save_pictures_steps is about pictures"),
    "advantages": ({"advantages": {"name": "grpo"}}, "advantages is about pictures that a policy makes"),
    "extractor": (
        {"rewards": {"edges": {"fn": "condition_match", "args": {"extractor": "canny"}}}},
        "unknown extractor 'canny'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_followed_is_refused_before_the_first_step(world: Path, tmp_path: Path, name: str) -> None:
    changes, words = WRONG[name]
    with pytest.raises(InputError) as caught:
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", **changes)))
    assert words in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_data_without_right_pictures_are_refused(world: Path, tmp_path: Path) -> None:
    sources = [replace(sample, media=sample.media[:1]) for sample in photographs(2, 8)]
    write_dataset(sources, tmp_path / "data")
    with pytest.raises(InputError, match="shows no picture to learn from"):
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", data=str(tmp_path / "data"))))


def test_an_extractor_without_a_gradient_is_refused_before_the_first_step(world: Path, tmp_path: Path) -> None:
    rewards = EDGES | {"mine": {"fn": "condition_match", "args": {"extractor": f"{__name__}:detached"}}}
    with pytest.raises(InputError, match=r"rewards\.mine has no gradient on sample"):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", rewards=rewards)))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_trainer_of_made_pictures_names_the_other_one(world: Path, tmp_path: Path) -> None:
    args = FlowArguments(str(tmp_path), use_cpu=True, report_to="none", algorithm="consistency")
    data = as_dataset(photographs(2, 8))
    with pytest.raises(InputError, match="use ConsistencyTrainer"):
        FlowTrainer(load_editor(world / "model"), rewards=Suite(EDGES), args=args, train_dataset=data)
