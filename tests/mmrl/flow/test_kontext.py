"""A tiny twin of Flux Kontext: diffusers' own pictures where nothing is random, and densities that can be replayed."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmrl.core.config import InputError
from mmrl.flow.policy_gradient import clipped_loss
from mmrl.model.flow.kontext import KontextPolicy
from mmrl.model.flow.sampling import replayed, sampled
from mmrl.model.tiny_editors import TEXT_TOKENS, tiny_kontext

INSTRUCTIONS = ["tint the left half red", "invert the upper half"]


@pytest.fixture(scope="module")
def policy() -> KontextPolicy:
    return KontextPolicy(tiny_kontext(INSTRUCTIONS), text_tokens=TEXT_TOKENS)


@pytest.fixture(scope="module")
def sources() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def test_without_noise_the_pictures_are_those_of_the_pipeline(
    policy: KontextPolicy, sources: list[Image.Image]
) -> None:
    condition = policy.condition(INSTRUCTIONS, sources)
    noise = policy.noise(condition, torch.Generator().manual_seed(1))
    ours = sampled(policy, condition, noise, policy.times(4, condition), level=0)
    policy.pipeline.set_progress_bar_config(disable=True)
    theirs = policy.pipeline(
        image=sources, prompt=INSTRUCTIONS, height=8, width=16, num_inference_steps=4, latents=noise,
        max_sequence_length=TEXT_TOKENS, output_type="latent", max_area=8 * 16, _auto_resize=False,
    ).images  # fmt: skip
    assert torch.allclose(ours.clean, theirs, atol=1e-5)
    made = policy.pictures(ours.clean, condition)
    assert [picture.size for picture in made] == [(16, 8)] * 2


def test_of_a_text_alone_the_pictures_are_those_of_the_pipeline(policy: KontextPolicy) -> None:
    condition = policy.condition(INSTRUCTIONS, None, (16, 8))
    noise = policy.noise(condition, torch.Generator().manual_seed(1))
    ours = sampled(policy, condition, noise, policy.times(3, condition), level=0)
    policy.pipeline.set_progress_bar_config(disable=True)
    theirs = policy.pipeline(
        prompt=INSTRUCTIONS, height=8, width=16, num_inference_steps=3, latents=noise,
        max_sequence_length=TEXT_TOKENS, output_type="latent", max_area=8 * 16,
    ).images  # fmt: skip
    assert torch.allclose(ours.clean, theirs, atol=1e-5)
    assert [picture.size for picture in policy.pictures(ours.clean, condition)] == [(16, 8)] * 2


def test_replayed_densities_are_those_drawn_and_teach(policy: KontextPolicy, sources: list[Image.Image]) -> None:
    condition = policy.condition(INSTRUCTIONS, sources).repeated(3)
    assert len(condition) == 6
    generator = torch.Generator().manual_seed(2)
    drawn = sampled(
        policy, condition, policy.noise(condition, generator), policy.times(3, condition), generator=generator
    )
    for places in ([0, 1, 2], [2], [1, 0]):
        for place, step in zip(places, replayed(policy, condition, drawn, places), strict=True):
            assert torch.allclose(step.log_density_N, drawn.drawn_TN[place], atol=1e-5)
    (step,) = replayed(policy, condition, drawn, [1])
    clipped_loss(step.log_density_N, drawn.drawn_TN[1], torch.tensor([1.0, -1, 0] * 2)).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.transformer.parameters())


def test_the_instruction_and_the_source_are_seen(policy: KontextPolicy, sources: list[Image.Image]) -> None:
    def velocity(texts: list[str], pictures: list[Image.Image]) -> torch.Tensor:
        condition = policy.condition(texts, pictures)
        noise = policy.noise(condition, torch.Generator().manual_seed(0))
        with torch.no_grad():
            return policy.velocity(noise, torch.full((len(texts),), 0.5), condition)

    base = velocity(INSTRUCTIONS, sources)
    assert not torch.allclose(base[0], velocity(INSTRUCTIONS[::-1], sources)[0], atol=1e-5)
    assert not torch.allclose(base[0], velocity(INSTRUCTIONS, sources[::-1])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("instructions", "sizes", "words"),
    [
        (["a"], [(10, 8)], "10x8; both sides must be multiples of 4"),
        (["a", "b"], [(8, 8), (16, 8)], "must have one size"),
        (["a"], [], "1 instructions for 0 pictures"),
    ],
)
def test_pictures_that_do_not_fit_are_named(
    policy: KontextPolicy, instructions: list[str], sizes: list[tuple[int, int]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        policy.condition(instructions, [Image.new("RGB", size) for size in sizes])


def test_another_pipeline_is_refused() -> None:
    other: Any = object()
    with pytest.raises(InputError, match="is a object; must be a FluxKontextPipeline"):
        KontextPolicy(other)
