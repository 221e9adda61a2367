"""A tiny twin of Qwen-Image-Edit: diffusers' own pictures where nothing is random, and training on edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import (
    QwenImageEditPipeline,  # pyright: ignore[reportPrivateImportUsage]
    QwenImageTransformer2DModel,  # pyright: ignore[reportPrivateImportUsage]
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from PIL import Image

from data_engine.dataset.shards import write_dataset
from data_engine.sources.editing.descriptions import descriptions
from data_engine.sources.editing.edit_pairs import edits
from mmrl.core.config import InputError, load
from mmrl.model.flow.loading import load_editor
from mmrl.model.flow.qwen_image_edit import QwenImageEditPolicy
from mmrl.model.flow.sampling import sampled
from mmrl.model.tiny_editors import tiny_qwen_image_edit
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.train.stages import run as train
from tests.support.pipelines import assert_learned, assert_replayed, assert_takes, evaluated
from tests.support.training import rollouts

TEXTS = ["tint the left half red", "invert the upper half of the picture"]  # of different lengths
SIZE = (64, 32)  # diffusers rounds the sides of sources to multiples of 32


@pytest.fixture(scope="module")
def pipeline() -> Any:
    made = tiny_qwen_image_edit(TEXTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def sources() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_without_noise_the_pictures_are_those_of_the_pipeline(
    pipeline: Any, sources: list[Image.Image], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = QwenImageEditPolicy(pipeline, guidance=guidance)
    assert policy.mixes == (guidance > 1)
    condition = policy.condition(TEXTS, sources)
    noise = policy.noise(condition, torch.Generator().manual_seed(1))
    ours = sampled(policy, condition, noise, policy.times(4, condition), level=0)
    real = pipeline_qwenimage_edit.calculate_dimensions
    monkeypatch.setattr(
        pipeline_qwenimage_edit, "calculate_dimensions", lambda _, ratio: real(SIZE[0] * SIZE[1], ratio)
    )  # sources of a megapixel take too long here
    asked: dict[str, Any] = {"height": SIZE[1], "width": SIZE[0], "num_inference_steps": 4, "latents": noise}
    asked |= {"true_cfg_scale": guidance, "negative_prompt": [" "] * 2 if guidance > 1 else None}
    theirs = pipeline(sources, TEXTS, output_type="latent", **asked).images
    assert torch.allclose(ours.clean, theirs, atol=1e-5)
    pictures = pipeline(sources, TEXTS, output_type="pil", **asked).images
    made = policy.pictures(ours.clean, condition)
    assert [picture.size for picture in made] == [SIZE] * 2
    assert max(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(made, pictures, strict=True)) <= 1


def test_replayed_densities_are_those_drawn(pipeline: Any, sources: list[Image.Image]) -> None:
    policy = QwenImageEditPolicy(pipeline, guidance=4.0)
    condition = policy.condition(TEXTS, sources).repeated(2)
    assert_replayed(policy, condition)


def test_the_network_sees_the_instruction_and_the_source_by_both_of_its_ways(
    pipeline: Any, sources: list[Image.Image]
) -> None:
    policy = QwenImageEditPolicy(pipeline, guidance=1.0)
    one, other = (policy.condition([text] * 2, sources) for text in TEXTS)
    latent = torch.randn(one.source_NSC.shape, generator=torch.Generator().manual_seed(0))
    time = torch.full((2,), 0.5)
    text_of = {name: policy.velocity(latent, time, condition) for name, condition in (("one", one), ("other", other))}
    assert not torch.allclose(text_of["one"], text_of["other"], atol=1e-5)
    assert not torch.allclose(one.text_NLD[0], one.text_NLD[1], atol=1e-5)  # the encoder reads the picture
    assert not torch.allclose(one.source_NSC[0], one.source_NSC[1], atol=1e-5)


def test_a_prompt_beside_a_longer_one_is_encoded_as_alone(pipeline: Any, sources: list[Image.Image]) -> None:
    policy = QwenImageEditPolicy(pipeline, guidance=4.0)
    both, alone = policy.condition(TEXTS, sources), policy.condition(TEXTS[:1], sources[:1])
    latent = torch.randn(both.source_NSC.shape, generator=torch.Generator().manual_seed(0))
    time = torch.full((2,), 0.5)
    assert both.mask_NL.sum(dim=1).tolist()[0] < both.text_NLD.shape[1]
    apart = policy.velocity(latent[:1], time[:1], alone)
    assert torch.allclose(policy.velocity(latent, time, both)[:1], apart, atol=1e-5)


def test_the_template_is_dropped_and_the_picture_has_places_in_two_dimensions(
    pipeline: Any, sources: list[Image.Image]
) -> None:
    policy = QwenImageEditPolicy(pipeline)
    before = pipeline.prompt_template_encode.partition("<|vision_start|>")[0]
    assert len(pipeline.tokenizer(before)["input_ids"]) == pipeline.prompt_template_encode_start_idx
    asked = pipeline.processor(
        text=[pipeline.prompt_template_encode.format(TEXTS[0])], images=sources[:1], return_tensors="pt"
    )
    assert asked["mm_token_type_ids"].any()
    with torch.no_grad():
        states = pipeline.text_encoder(**asked, output_hidden_states=True).hidden_states[-1]
    kept = states[:, pipeline.prompt_template_encode_start_idx :]
    assert torch.allclose(policy.condition(TEXTS[:1], sources[:1]).text_NLD, kept, atol=1e-5)
    with torch.no_grad():
        unmended, _ = tiny_qwen_image_edit(TEXTS).encode_prompt(TEXTS[:1], image=sources[:1])
    assert not torch.allclose(unmended, kept, atol=1e-4), "diffusers tells the places now: drop _with_places"


def test_right_pictures_have_latents_that_the_vae_spreads_evenly(pipeline: Any, sources: list[Image.Image]) -> None:
    policy = QwenImageEditPolicy(pipeline)
    condition = policy.condition(TEXTS, sources)
    latents = policy.latents(sources, condition)
    pixels = pipeline.image_processor.preprocess(sources)[:, :, None]
    raw = pipeline.vae.encode(pixels).latent_dist.mode()[:, :, 0]
    config = pipeline.vae.config
    mean, spread = (torch.tensor(value)[None, :, None, None] for value in (config.latents_mean, config.latents_std))
    assert torch.allclose(
        pipeline._unpack_latents(latents, SIZE[1], SIZE[0], 2)[:, :, 0], (raw - mean) / spread, atol=1e-5
    )
    assert torch.equal(latents, condition.source_NSC)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (QwenImageEditPipeline.encode_prompt, "prompt image"),
        (
            QwenImageEditPipeline.prepare_latents,
            "image batch_size num_channels_latents height width dtype device generator",
        ),
        (QwenImageEditPipeline._unpack_latents, "latents height width vae_scale_factor"),
        (
            QwenImageTransformer2DModel.forward,
            "hidden_states timestep encoder_hidden_states encoder_hidden_states_mask img_shapes return_dict",
        ),
    ],
)
def test_diffusers_still_takes_what_it_is_given(function: Any, names: str) -> None:
    assert_takes(function, names)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pipeline: Any) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_dataset(edits(n=4, side=16), out / "data")
    pipeline.save_pretrained(out / "model")
    return out


def config(world: Path, place: Path, **changes: Any) -> Path:
    steps = {"use_cpu": True, "logging_steps": 1, "learning_rate": 1e-2}
    values = {
        "model": str(world / "model"),
        "data": str(world / "data"),
        "output": str(place.with_suffix("")),
        "rewards": {"match": {"fn": "edit_match"}},
        "advantages": {"name": "grpo"},
        "lora": {"r": 2, "alpha": 4},
        "sft": {**steps, "max_steps": 1, "per_device_train_batch_size": 2},
        "flow": {
            **steps,
            **{"algorithm": "flow_grpo", "guidance": 4.0, "num_generations": 3, "sampling_steps": 2, "max_steps": 2},
            **{"per_device_train_batch_size": 2, "gradient_checkpointing": True},
        },
    }
    place.write_text(yaml.safe_dump(values | changes))
    return place


def test_it_learns_by_adapters_and_ends_as_a_pipeline_that_is_evaluated(world: Path, tmp_path: Path) -> None:
    final = train(load(TrainConfig, config(world, tmp_path / "run.yaml")))
    rows = [row for file in rollouts(final.parent).values() for row in file]
    assert {(row["made"][0]["width"], row["kind/match"]) for row in rows} == {(16, "scored")}
    assert_learned(world / "model", final, "image-to-image", "true_cfg_scale=4.0")
    records = evaluated(final, world / "data", tmp_path / "eval", {"match": {"fn": "edit_match"}})
    assert all(record.scores["match"] is not None for record in records)


def test_what_it_cannot_do_is_refused_in_words(world: Path, tmp_path: Path, pipeline: Any) -> None:
    write_dataset(descriptions(n=2, side=16, things=["square"]), tmp_path / "texts")
    painting = config(world, tmp_path / "run.yaml", data=str(tmp_path / "texts"), sft=None)
    with pytest.raises(InputError, match="a QwenImageEditPipeline can be asked edit; the data have text_to_image"):
        check(load(TrainConfig, painting, ["rewards={content: {fn: content_match}}"]))
    policy = QwenImageEditPolicy(pipeline)
    with pytest.raises(InputError, match="can be asked edit; it was given texts alone"):
        policy.condition(TEXTS, None, SIZE)
    with pytest.raises(InputError, match="10x8; both sides must be multiples of 4"):
        policy.condition(TEXTS[:1], [Image.new("RGB", (10, 8))])


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_part_that_gives_nan_is_named_before_the_first_step(world: Path, tmp_path: Path, part: str) -> None:
    broken = load_editor(world / "model").pipeline
    for weight in getattr(broken, part).parameters():
        weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=f"the {part} of the model gives NaN for sample"):
        train(load(TrainConfig, config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"))))
