"""Stable Diffusion 3 and 3.5 as policies: a text in, a picture out.

Shapes: N samples, C channels of a latent of h x w, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mmrl.model.flow import policy
from mmrl.model.flow.pictures import FROM_TEXT
from mmrl.model.flow.policy import PicturePolicy, check_targets, mixed
from mmrl.model.flow.process import Draws, gaussian

TEXT_TOKENS = 256  # of T5, as the pipeline has it


@dataclass(frozen=True, slots=True)
class Condition(policy.Condition):
    """The encoded texts, and the empty text for each of them, which guidance leads away from."""

    PER_SAMPLE: ClassVar[tuple[str, ...]] = (*policy.Condition.PER_SAMPLE, "pooled_ND", "empty_NLD", "empty_pooled_ND")

    pooled_ND: Tensor
    empty_NLD: Tensor
    empty_pooled_ND: Tensor


class StableDiffusion3Policy(PicturePolicy):
    """A `StableDiffusion3Pipeline` as a policy. With `guidance` above 1 the velocity is mixed of two, in learning as
    well (as in Flow-GRPO's release): v = v_empty + guidance (v_text - v_empty)."""

    PIPELINE = "StableDiffusion3Pipeline"
    TASKS = (FROM_TEXT,)

    def __init__(self, pipeline: Any, **settings: Any) -> None:
        super().__init__(pipeline, **settings)
        lengths = (
            [TEXT_TOKENS] if pipeline.tokenizer_3 is None else [TEXT_TOKENS, pipeline.tokenizer_3.model_max_length]
        )
        self.text_tokens = min(self.text_tokens, *lengths)

    @property
    def mixes(self) -> bool:
        """Whether a velocity is mixed of two, with the text and without (classifier-free guidance)."""
        return self.guidance > 1

    def encode(self, texts: list[str], sources: Sequence[Image.Image] | None, size: tuple[int, int]) -> Condition:
        """The encoded texts of N prompts; there are no sources."""
        text, empty, pooled, empty_pooled = self.pipeline.encode_prompt(
            *[texts] * 3, negative_prompt="", max_sequence_length=self.text_tokens
        )
        return Condition(size, text, pooled, empty, empty_pooled)

    def velocity(self, latent: Tensor, time_N: Tensor, condition: Condition) -> Tensor:
        """[N, C, h, w]: the predicted velocity e - x_0 at a time of its own for each sample."""
        text, pooled, times = condition.text_NLD, condition.pooled_ND, 1 if not self.mixes else 2
        if self.mixes:
            text, pooled = torch.cat([condition.empty_NLD, text]), torch.cat([condition.empty_pooled_ND, pooled])
        steps = self.pipeline.scheduler.config.num_train_timesteps
        predicted = self.network(
            hidden_states=torch.cat([latent] * times),
            timestep=torch.cat([time_N.to(latent) * steps] * times),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return mixed(predicted, self.guidance) if self.mixes else predicted

    def noise(self, condition: Condition, generator: Draws) -> Tensor:
        """[N, C, h, w]: the noise that sampling starts from."""
        scale, (width, height) = self.pipeline.vae_scale_factor, condition.size
        shape = len(condition), self.transformer.config.in_channels, height // scale, width // scale
        return gaussian(condition.text_NLD.new_empty(shape), generator)

    def times(self, count: int, condition: Condition) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler."""
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

        scheduler, moved = self.pipeline.scheduler, {}
        if scheduler.config.get("use_dynamic_shifting"):
            names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
            defaults = zip(names, (256, 4096, 0.5, 1.16), strict=True)
            tokens = condition.size[0] * condition.size[1] // self.multiple**2
            moved["mu"] = calculate_shift(tokens, *(scheduler.config.get(*each) for each in defaults))
        scheduler.set_timesteps(count, **moved)
        return scheduler.sigmas.tolist()

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image], condition: Condition) -> Tensor:
        """[N, C, h, w]: the clean latents of pictures of the condition's size, as targets of supervised training."""
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3_img2img import retrieve_latents

        check_targets(pictures, condition)
        vae, (width, height) = self.pipeline.vae, condition.size
        shown = self.pipeline.image_processor.preprocess([each.convert("RGB") for each in pictures], height, width)
        encoded = retrieve_latents(vae.encode(shown.to(vae.device, vae.dtype)), sample_mode="argmax")
        return (encoded - vae.config.shift_factor) * vae.config.scaling_factor

    def encoded(self, condition: Condition) -> Mapping[str, Tensor]:
        """What each part of the pipeline gave for a condition, by the part's name."""
        pooled, first = condition.pooled_ND, self.pipeline.text_encoder.config.projection_dim
        last = condition.text_NLD[:, -self.text_tokens :]  # T5 stands behind the two others
        return {"text_encoder": pooled[:, :first], "text_encoder_2": pooled[:, first:], "text_encoder_3": last}
