"""A prompt's media as vLLM takes them hold exactly what the trainer's model gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.engine.features import FeatureWriter
from mmrl.model.encoding import encode
from tests.support.engine_server import tensors_in
from tests.support.training import tiny_policy


def of_one_norm(processor: Any) -> Any:
    """`processor` as published ones are: pictures and videos are normalised by the same numbers."""
    for name in ("image_mean", "image_std"):
        setattr(processor.video_processor, name, getattr(processor.image_processor, name))
    return processor


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl"])
def test_what_is_sent_is_what_the_model_gets(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = tiny_policy(budget, architecture)
    writer = FeatureWriter(model.config, of_one_norm(processor))
    for sample in mixed_samples:
        prompt = encode(processor, sample.prompt, sample.media, budget)
        features = writer(prompt)
        assert (features is None) == (not sample.media)
        found = tensors_in(features, prompt.input_ids, processor, model.config)
        for name, tensor in prompt.tensors.items():
            if name == "mm_token_type_ids":
                continue  # the engine makes them of the ids
            if name == "video_grid_thw" and architecture == "qwen3_vl":
                assert found[name].prod(dim=1).sum() == tensor.prod(dim=1).sum()
                assert (found[name][:, 0] == 1).all()
            else:
                assert torch.allclose(found[name].to(tensor), tensor, atol=1e-6), (sample.task, name)
        for places in (features or {"mm_placeholders": {}})["mm_placeholders"].values():
            assert places == sorted(places, key=lambda place: place["offset"])


def test_equal_pictures_have_equal_hashes_and_others_have_others(
    mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = tiny_policy(budget)
    writer = FeatureWriter(model.config, processor)
    two = next(s for s in mixed_samples if [m.kind for m in s.media] == ["image", "image"])
    one = next(s for s in mixed_samples if [m.kind for m in s.media] == ["image"])
    hashes = [(writer(encode(processor, s.prompt, s.media, budget)) or {})["mm_hashes"]["image"] for s in (two, one)]
    assert hashes[0][0] == hashes[1][0] != hashes[0][1]


def test_an_architecture_without_a_layout_is_refused(budget: VisionBudget) -> None:
    model, processor = tiny_policy(budget, "idefics3")
    with pytest.raises(InputError, match=r"media of a idefics3 is not known; known: qwen2_5_vl, qwen3_vl; use engine"):
        FeatureWriter(model.config, processor)


def test_two_normalisations_are_refused(mixed_samples: list[Sample], budget: VisionBudget) -> None:
    model, processor = tiny_policy(budget)
    processor.video_processor.image_mean = [0.1, 0.1, 0.1]
    clip = next(s for s in mixed_samples if s.task == "temporal")
    with pytest.raises(InputError, match="normalises videos and pictures by other numbers"):
        FeatureWriter(model.config, processor)(encode(processor, clip.prompt, clip.media, budget))


def test_pixels_and_ids_that_do_not_belong_together_are_refused(
    mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = tiny_policy(budget)
    sample = next(s for s in mixed_samples if s.task == "grounding")
    prompt, writer = encode(processor, sample.prompt, sample.media, budget), FeatureWriter(model.config, processor)
    with pytest.raises(InputError, match="not whole numbers from 0 to 255"):
        writer(replace(prompt, tensors=prompt.tensors | {"pixel_values": prompt.tensors["pixel_values"] * 0.37}))
    ids = [token for token in prompt.input_ids if token != model.config.image_token_id]
    with pytest.raises(InputError, match=r"a media item of \d+ tokens has no \d+ tokens"):
        writer(replace(prompt, input_ids=ids))
    with pytest.raises(InputError, match=r"a prompt has \d+ media tokens \d+, its media make"):
        writer(replace(prompt, input_ids=[*prompt.input_ids, model.config.image_token_id]))
