"""Wan 2.1 as a policy: a text in, a video out.

Shapes: N samples, C channels of a latent of F frames of h x w, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from data_engine.media.frame_folder import as_video
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.model.flow import policy
from mmrl.model.flow.pictures import VIDEO
from mmrl.model.flow.policy import PicturePolicy, denormalised, mixed
from mmrl.model.flow.process import Draws, gaussian

RATE = 16  # frames a second of its videos


@dataclass(frozen=True, slots=True)
class Condition(policy.Condition):
    """The encoded texts, and the empty text for each of them, of no token where velocities are not mixed."""

    PER_SAMPLE: ClassVar[tuple[str, ...]] = (*policy.Condition.PER_SAMPLE, "empty_NLD")

    empty_NLD: Tensor


class WanPolicy(PicturePolicy):
    """A `WanPipeline` with one network as a policy. With `guidance` above 1 the velocity is mixed of two, in learning
    as well: v = v_empty + guidance (v_text - v_empty)."""

    PIPELINE = "WanPipeline"
    TASKS = (VIDEO,)

    def __init__(self, pipeline: Any, **settings: Any) -> None:
        super().__init__(pipeline, **settings)
        if pipeline.config.boundary_ratio is not None or pipeline.config.expand_timesteps:
            raise InputError("a WanPipeline of Wan 2.2, with two networks or a time for each token; must be Wan 2.1")
        if (self.frames - 1) % pipeline.vae_scale_factor_temporal:
            each = pipeline.vae_scale_factor_temporal
            raise InputError(f"flow.frames={self.frames}; must be 1 more than a multiple of {each}")
        self.text_tokens = min(self.text_tokens, pipeline.tokenizer.model_max_length)

    @classmethod
    def multiple_of(cls, vae: Mapping[str, Any]) -> int:
        """As `PicturePolicy.multiple_of`."""
        return 2 * vae["scale_factor_spatial"]

    @property
    def mixes(self) -> bool:
        """Whether a velocity is mixed of two, with the text and without (classifier-free guidance)."""
        return self.guidance > 1

    def encode(self, texts: list[str], sources: Sequence[Image.Image] | None, size: tuple[int, int]) -> Condition:
        """The encoded texts of N prompts; there are no sources."""
        text, empty = self.pipeline.encode_prompt(
            texts, do_classifier_free_guidance=self.mixes, max_sequence_length=self.text_tokens
        )
        return Condition(size, text, text[:, :0] if empty is None else empty)

    def velocity(self, latent: Tensor, time_N: Tensor, condition: Condition) -> Tensor:
        """[N, C, F, h, w]: the predicted velocity e - x_0 at a time of its own for each sample."""
        text, times = condition.text_NLD, 1 if not self.mixes else 2
        steps = self.pipeline.scheduler.config.num_train_timesteps
        predicted = self.network(
            hidden_states=torch.cat([latent] * times),
            timestep=torch.cat([time_N * steps] * times),
            encoder_hidden_states=torch.cat([condition.empty_NLD, text]) if self.mixes else text,
            return_dict=False,
        )[0]
        return mixed(predicted, self.guidance) if self.mixes else predicted

    def noise(self, condition: Condition, generator: Draws) -> Tensor:
        """[N, C, F, h, w]: the noise that sampling starts from."""
        pipeline, (width, height) = self.pipeline, condition.size
        shape = (
            *(len(condition), self.transformer.config.in_channels),
            (self.frames - 1) // pipeline.vae_scale_factor_temporal + 1,
            *(side // pipeline.vae_scale_factor_spatial for side in (height, width)),
        )
        return gaussian(condition.text_NLD.new_empty(shape), generator)

    def times(self, count: int, condition: Condition) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler. That of the published weights, UniPC,
        begins a little below 1, where the latent is taken for noise as well."""
        self.pipeline.scheduler.set_timesteps(count)
        return [1.0, *self.pipeline.scheduler.sigmas.tolist()[1:]]

    def latents(self, pictures: Sequence[Image.Image], condition: Condition) -> Tensor:
        """InputError: it learns from videos that it makes."""
        raise InputError("a WanPipeline learns from videos that it makes, not from given ones; leave out sft:")

    def encoded(self, condition: Condition) -> Mapping[str, Tensor]:
        """What each part of the pipeline gave for a condition, by the part's name."""
        return {"text_encoder": condition.text_NLD}

    @torch.no_grad()
    def shots(self, latent: Tensor, condition: Condition) -> list[list[Image.Image]]:
        """The frames of videos of clean latents."""
        return self.pipeline.video_processor.postprocess_video(self.decoded(latent, condition), output_type="pil")

    def pictures(self, latent: Tensor, condition: Condition) -> list[Image.Image]:
        """The first frames of videos of clean latents."""
        return [shot[0] for shot in self.shots(latent, condition)]

    def media(self, shot: Sequence[Image.Image]) -> Media:
        """A video of 16 frames a second."""
        return as_video(shot, RATE)

    def decoded(self, latent: Tensor, condition: Condition) -> Tensor:
        """[N, 3, frames, H, W]: what the VAE makes of latents."""
        vae = self.pipeline.vae
        return vae.decode(denormalised(latent.to(vae.dtype), vae), return_dict=False)[0]
