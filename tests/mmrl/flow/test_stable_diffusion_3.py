"""A tiny twin of Stable Diffusion 3: diffusers' own pictures where nothing is random, and training on texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image

from data_engine.dataset.shards import write_dataset
from data_engine.sources.editing.descriptions import descriptions
from data_engine.sources.editing.edit_pairs import edits
from mmrl.core.config import InputError, load
from mmrl.flow.trainer import FlowMatchingTrainer
from mmrl.model.flow.loading import load_editor
from mmrl.model.flow.sampling import sampled
from mmrl.model.flow.stable_diffusion_3 import StableDiffusion3Policy
from mmrl.model.tiny_editors import TEXT_TOKENS, tiny_stable_diffusion_3
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.train.stages import run as train
from tests.support.pipelines import assert_learned, assert_replayed, assert_takes, assert_text_is_seen, evaluated
from tests.support.training import rollouts

TEXTS = ["two red squares", "one blue square in the left half"]
SIZE = (16, 8)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    made = tiny_stable_diffusion_3(TEXTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("guidance", [1.0, 4.5])
def test_without_noise_the_pictures_are_those_of_the_pipeline(pipeline: Any, guidance: float) -> None:
    policy = StableDiffusion3Policy(pipeline, guidance=guidance)
    assert policy.mixes == (guidance > 1)
    condition = policy.condition(TEXTS, None, SIZE)
    noise = policy.noise(condition, torch.Generator().manual_seed(1))
    ours = sampled(policy, condition, noise, policy.times(4, condition), level=0)
    asked = {"height": SIZE[1], "width": SIZE[0], "num_inference_steps": 4, "guidance_scale": guidance}
    asked |= {"latents": noise, "max_sequence_length": TEXT_TOKENS}
    theirs = pipeline(TEXTS, output_type="latent", **asked).images
    assert torch.allclose(ours.clean, theirs, atol=1e-5)
    pictures = pipeline(TEXTS, output_type="pil", **asked).images
    made = policy.pictures(ours.clean, condition)
    assert [picture.size for picture in made] == [SIZE] * 2
    assert max(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(made, pictures, strict=True)) <= 1


def test_with_shifts_that_follow_the_size_the_times_are_those_of_the_pipeline() -> None:
    pipeline = tiny_stable_diffusion_3(TEXTS)
    pipeline.scheduler = type(pipeline.scheduler)(use_dynamic_shifting=True)
    policy = StableDiffusion3Policy(pipeline)
    times = policy.times(3, policy.condition(TEXTS, None, SIZE))
    pipeline(TEXTS, height=SIZE[1], width=SIZE[0], num_inference_steps=3, max_sequence_length=TEXT_TOKENS)
    assert times == pytest.approx(pipeline.scheduler.sigmas.tolist())
    assert times != pytest.approx([1, 2 / 3, 1 / 3, 0], abs=0.01)


def test_replayed_densities_are_those_drawn_and_the_text_is_seen(pipeline: Any) -> None:
    policy = StableDiffusion3Policy(pipeline, guidance=4.5)
    condition = policy.condition(TEXTS, None, SIZE).repeated(2)
    assert_replayed(policy, condition)
    assert_text_is_seen(policy, condition.only(0), condition.only(2))


def test_right_pictures_have_latents_that_give_them_back(pipeline: Any) -> None:
    policy = StableDiffusion3Policy(pipeline)
    condition = policy.condition(TEXTS, None, SIZE)
    pictures = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    latents = policy.latents(pictures, condition)
    theirs = pipeline.vae.encode(pipeline.image_processor.preprocess(pictures)).latent_dist.mode()
    assert torch.allclose(latents, theirs, atol=1e-5)  # the twin's shift is 0 and its scale 1
    with pytest.raises(InputError, match="must have one size"):
        policy.latents([Image.new("RGB", (8, 8))] * 2, condition)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (StableDiffusion3Pipeline.encode_prompt, "prompt prompt_2 prompt_3 negative_prompt max_sequence_length"),
        (SD3Transformer2DModel.forward, "hidden_states timestep encoder_hidden_states pooled_projections return_dict"),
    ],
)
def test_diffusers_still_takes_what_it_is_given(function: Any, names: str) -> None:
    assert_takes(function, names)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pipeline: Any) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_dataset(descriptions(n=8, side=16, things=["square"]), out / "data")
    pipeline.save_pretrained(out / "model")
    return out


def config(world: Path, place: Path, **changes: Any) -> Path:
    steps = {"use_cpu": True, "logging_steps": 1, "learning_rate": 1e-2, "max_steps": 2}
    values = {
        "model": str(world / "model"),
        "data": str(world / "data"),
        "output": str(place.with_suffix("")),
        "rewards": {"content": {"fn": "content_match"}, "reds": {"fn": f"{__name__}:reds"}},
        "advantages": {"name": "flow_grpo"},
        "lora": {"r": 2, "alpha": 4},
        "sft": {**steps, "max_steps": 1, "per_device_train_batch_size": 2},
        "flow": {
            **steps,
            **{"algorithm": "flow_grpo", "guidance": 4.5, "num_generations": 3, "sampling_steps": 2},
            **{"per_device_train_batch_size": 2, "gradient_checkpointing": True},
        },
    }
    place.write_text(yaml.safe_dump(values | changes))
    return place


def reds(rollouts: list[Any]) -> list[float]:
    from mmrl.core.media.image import load_image

    return [float(np.asarray(load_image(rollout.made[0]))[..., 0].mean() / 255) for rollout in rollouts]


@pytest.mark.parametrize("algorithm", ["flow_grpo", "crd"])
def test_it_learns_by_adapters_and_ends_as_a_pipeline_that_is_evaluated(
    world: Path, tmp_path: Path, algorithm: str
) -> None:
    place = config(world, tmp_path / "run.yaml")
    asked = load(TrainConfig, place, [f"flow.algorithm={algorithm}"])
    final = train(asked)
    rows = [row for file in rollouts(final.parent).values() for row in file]
    assert {(row["made"][0]["width"], row["kind/reds"]) for row in rows} == {(16, "scored")}
    assert_learned(world / "model", final, "text-to-image", "StableDiffusion3Pipeline.from_pretrained")
    records = evaluated(final, world / "data", tmp_path / "eval", {"reds": {"fn": f"{__name__}:reds"}})
    assert all(record.scores["reds"] is not None for record in records)


def test_what_it_cannot_do_is_refused_in_words(world: Path, tmp_path: Path, pipeline: Any) -> None:
    write_dataset(edits(n=2, side=16), tmp_path / "edits")
    editing = config(world, tmp_path / "run.yaml", data=str(tmp_path / "edits"), rewards={"m": {"fn": "edit_match"}})
    with pytest.raises(InputError, match="a StableDiffusion3Pipeline can be asked text_to_image; the data have edit"):
        check(load(TrainConfig, editing))
    policy = StableDiffusion3Policy(pipeline, guidance=4.5)
    with pytest.raises(InputError, match="it was given source pictures to edit"):
        policy.condition(TEXTS, [Image.new("RGB", SIZE)] * 2)
    with pytest.raises(InputError, match="10x8; both sides must be multiples of 4"):
        policy.condition(TEXTS, None, (10, 8))
    with pytest.raises(InputError, match=r"guidance=4\.5 mixes two velocities"):
        FlowMatchingTrainer(policy, args=None, train_dataset=None)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "text_encoder_2", "text_encoder_3"])
def test_a_part_that_gives_nan_is_named_before_the_first_step(world: Path, tmp_path: Path, part: str) -> None:
    broken = load_editor(world / "model").pipeline
    for weight in getattr(broken, part).parameters():
        weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=f"the {part} of the model gives NaN for sample"):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"))))
