"""A tiny twin of Wan 2.1: diffusers' own videos where nothing is random, and training on videos that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import (
    FlowMatchEulerDiscreteScheduler,  # pyright: ignore[reportPrivateImportUsage]
    WanPipeline,  # pyright: ignore[reportPrivateImportUsage]
    WanTransformer3DModel,  # pyright: ignore[reportPrivateImportUsage]
)

from data_engine.dataset.shards import write_dataset
from data_engine.sources.editing.descriptions import descriptions
from eval.run import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import InputError, load, validate
from mmrl.core.media.item import Media
from mmrl.core.media.video import load_frames
from mmrl.model.flow.loading import load_editor
from mmrl.model.flow.sampling import sampled
from mmrl.model.flow.wan import WanPolicy
from mmrl.model.tiny_editors import TEXT_TOKENS, tiny_wan
from mmrl.pages.rollout_pages import as_page, chosen
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.train.stages import run as train
from tests.support.pipelines import assert_learned, assert_replayed, assert_takes, assert_text_is_seen, evaluated
from tests.support.training import rollouts

TEXTS = ["two red squares", "one blue square in the left half"]
SIZE, FRAMES = (32, 16), 5


@pytest.fixture(scope="module")
def pipeline() -> Any:
    made = tiny_wan(TEXTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_without_noise_the_videos_are_those_of_the_pipeline(guidance: float) -> None:
    pipeline = tiny_wan(TEXTS)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)  # the steps of UniPC are not Euler's
    policy = WanPolicy(pipeline, guidance=guidance, frames=FRAMES)
    assert policy.mixes == (guidance > 1)
    condition = policy.condition(TEXTS, None, SIZE)
    noise = policy.noise(condition, torch.Generator().manual_seed(1))
    ours = sampled(policy, condition, noise, policy.times(4, condition), level=0)
    asked: dict[str, Any] = {"height": SIZE[1], "width": SIZE[0], "num_frames": FRAMES, "num_inference_steps": 4}
    asked |= {"guidance_scale": guidance, "latents": noise, "max_sequence_length": TEXT_TOKENS}
    theirs = pipeline(TEXTS, output_type="latent", **asked).frames
    assert torch.allclose(ours.clean, theirs, atol=1e-5)
    videos, made = pipeline(TEXTS, output_type="pil", **asked).frames, policy.shots(ours.clean, condition)
    assert [[frame.size for frame in shot] for shot in made] == [[SIZE] * FRAMES] * 2
    for shot, video in zip(made, videos, strict=True):
        gaps = [np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(shot, video, strict=True)]
        assert max(gaps) <= 1


def test_the_times_are_those_of_the_published_scheduler_from_pure_noise_on(pipeline: Any) -> None:
    policy = WanPolicy(pipeline, frames=FRAMES)
    times = policy.times(4, policy.condition(TEXTS, None, SIZE))
    pipeline(TEXTS, height=SIZE[1], width=SIZE[0], num_frames=FRAMES, num_inference_steps=4, max_sequence_length=32)
    assert times[0] == 1
    assert pipeline.scheduler.sigmas[0] == pytest.approx(1, abs=1e-3)
    assert times[1:] == pytest.approx(pipeline.scheduler.sigmas[1:].tolist())


def test_replayed_densities_are_those_drawn_and_the_text_is_seen(pipeline: Any) -> None:
    policy = WanPolicy(pipeline, guidance=5.0, frames=FRAMES)
    condition = policy.condition(TEXTS, None, SIZE).repeated(2)
    assert_replayed(policy, condition)
    assert_text_is_seen(policy, condition.only(0), condition.only(2))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (WanPipeline.encode_prompt, "prompt do_classifier_free_guidance max_sequence_length"),
        (WanTransformer3DModel.forward, "hidden_states timestep encoder_hidden_states return_dict"),
    ],
)
def test_diffusers_still_takes_what_it_is_given(function: Any, names: str) -> None:
    assert_takes(function, names)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pipeline: Any) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_dataset(descriptions(n=4, side=16, things=["square"], video=True), out / "data")
    pipeline.save_pretrained(out / "model")
    return out


def config(world: Path, place: Path, **changes: Any) -> Path:
    flow = {"use_cpu": True, "logging_steps": 1, "learning_rate": 1e-2, "max_steps": 2, "guidance": 5.0, "side": 16}
    flow |= {"num_generations": 3, "sampling_steps": 2, "frames": FRAMES, "per_device_train_batch_size": 2}
    values = {
        "model": str(world / "model"),
        "data": str(world / "data"),
        "output": str(place.with_suffix("")),
        "rewards": {"content": {"fn": "content_match"}},
        "lora": {"r": 2, "alpha": 4},
        "flow": flow | {"algorithm": "flow_grpo", "gradient_checkpointing": True},
    }
    place.write_text(yaml.safe_dump(values | changes))
    return place


def reds(rollouts: list[Any]) -> list[float]:
    return [float(load_frames(rollout.made[0], 2).frames[..., 0].mean() / 255) for rollout in rollouts]


@pytest.mark.parametrize("algorithm", ["flow_grpo", "crd", "dense_grpo"])
def test_it_learns_from_its_videos_and_ends_as_a_pipeline_that_is_evaluated(
    world: Path, tmp_path: Path, algorithm: str
) -> None:
    rewards = {"content": {"fn": "content_match"}, "reds": {"fn": f"{__name__}:reds"}}
    place = config(world, tmp_path / "run.yaml", rewards=rewards)
    final = train(load(TrainConfig, place, [f"flow.algorithm={algorithm}"]))
    rows = [row for file in rollouts(final.parent).values() for row in file]
    assert {(row["made"][0]["kind"], row["kind/content"], row["kind/reds"]) for row in rows} == {
        ("video", "scored", "scored")
    }
    assert load_frames(Media(**rows[0]["made"][0]), 9).frames.shape == (FRAMES, 16, 16, 3)
    asked = "num_frames=5, num_inference_steps=2, guidance_scale=5.0"
    assert_learned(world / "model", final, "text-to-video", asked)
    page = as_page(chosen(final.parent, step=2, task=None, limit=9))
    assert page.count("<figcaption>16×16, 5 frames") == 6
    assert page.count("<figcaption>step by step from noise") == 2
    records = evaluated(final, world / "data", tmp_path / "eval", rewards, side=16, frames=3)
    assert all(record.scores["content"] is not None for record in records)
    assert {(record.made[0]["kind"], record.made[0]["num_frames"]) for record in records} == {("video", 3)}
    page = as_page(chosen(tmp_path / "eval", step=None, task=None, limit=9))
    assert (page.count("<figcaption>16×16, 3 frames"), page.count("not shown")) == (2, 0)


def test_what_it_cannot_do_is_refused_in_words(world: Path, tmp_path: Path, pipeline: Any) -> None:
    write_dataset(descriptions(n=2, side=16, things=["square"]), tmp_path / "pictures")
    with pytest.raises(InputError, match="a WanPipeline can be asked text_to_video; the data have text_to_image"):
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", data=str(tmp_path / "pictures"))))
    with pytest.raises(InputError, match="of videos there is no sft:"):
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", sft={"max_steps": 1})))
    with pytest.raises(InputError, match=r"flow\.frames=4; must be 1 more than a multiple of 2"):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml"), ["flow.frames=4"]))
    asked: dict[str, Any] = {"engine": "flow", "model": str(world / "model"), "out": str(tmp_path / "eval")}
    asked |= {"data": {"path": str(world / "data"), "split": "train"}, "rewards": {"content": {"fn": "content_match"}}}
    searched = asked | {"decode": {"method": "best_of_n", "n": 2, "rewards": asked["rewards"], "gold": True}}
    with pytest.raises(InputError, match="decode: searches for pictures; the data have text_to_video"):
        evaluate(validate(EvalConfig, searched, where="test"))
    other = asked | {"data": {"path": str(tmp_path / "pictures"), "split": "train"}}
    with pytest.raises(InputError, match="can be asked text_to_video; the data have text_to_image"):
        evaluate(validate(EvalConfig, other, where="test"))
    pipeline.register_to_config(boundary_ratio=0.9)
    with pytest.raises(InputError, match=r"must be Wan 2\.1"):
        WanPolicy(pipeline)
    pipeline.register_to_config(boundary_ratio=None)


def test_a_text_encoder_that_gives_nan_is_named_before_the_first_step(world: Path, tmp_path: Path) -> None:
    broken = load_editor(world / "model").pipeline
    for weight in broken.text_encoder.parameters():
        weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="the text_encoder of the model gives NaN for sample"):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"))))
