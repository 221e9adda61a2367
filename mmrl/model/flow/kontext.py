"""Pipelines of the Flux Kontext family as policies: a picture and an instruction in, or a text alone; a picture out.

Shapes: N samples, S tokens of a latent, C channels of a token, L tokens of an instruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mmrl.model.flow import policy
from mmrl.model.flow.pictures import EDIT, FROM_TEXT
from mmrl.model.flow.policy import PicturePolicy, check_targets, shifted_times
from mmrl.model.flow.process import Draws, gaussian


@dataclass(frozen=True, slots=True)
class Condition(policy.Condition):
    """The encoded instructions and source pictures. Without sources `source_NSC` has no token."""

    PER_SAMPLE: ClassVar[tuple[str, ...]] = (*policy.Condition.PER_SAMPLE, "pooled_ND", "source_NSC")

    pooled_ND: Tensor
    source_NSC: Tensor
    text_ids: Tensor
    place_ids: Tensor

    @property
    def tokens(self) -> int:
        """The number of tokens of a latent."""
        return len(self.place_ids) - self.source_NSC.shape[1]


class KontextPolicy(PicturePolicy):
    """A `FluxKontextPipeline` as a policy; its network may take guidance as an input."""

    PIPELINE = "FluxKontextPipeline"
    TASKS = (EDIT, FROM_TEXT)

    def __init__(self, pipeline: Any, **settings: Any) -> None:
        super().__init__(pipeline, **settings)
        self.text_tokens = min(self.text_tokens, pipeline.tokenizer_2.model_max_length)

    def encode(self, texts: list[str], sources: Sequence[Image.Image] | None, size: tuple[int, int]) -> Condition:
        """As `PicturePolicy.encode`."""
        pipeline, (width, height) = self.pipeline, size
        text, pooled, text_ids = pipeline.encode_prompt(texts, max_sequence_length=self.text_tokens)
        shown = None if sources is None else [picture.convert("RGB") for picture in sources]
        pixels = None if shown is None else pipeline.image_processor.preprocess(shown, height, width)
        channels, device = self.transformer.config.in_channels // 4, pipeline._execution_device
        noise, source, place_ids, source_ids = pipeline.prepare_latents(
            pixels, len(text), channels, height, width, text.dtype, device, torch.Generator(device).manual_seed(0)
        )
        if source is None:
            return Condition(size, text, pooled, noise[:, :0], text_ids, place_ids)
        return Condition(size, text, pooled, source, text_ids, torch.cat([place_ids, source_ids]))

    def velocity(self, latent: Tensor, time_N: Tensor, condition: Condition) -> Tensor:
        """[N, S, C]: the predicted velocity e - x_0 at a time of its own for each sample."""
        guided = self.transformer.config.guidance_embeds
        predicted = self.network(
            hidden_states=torch.cat([latent, condition.source_NSC], dim=1),
            timestep=time_N.to(latent),
            guidance=torch.full_like(time_N, self.guidance) if guided else None,
            pooled_projections=condition.pooled_ND,
            encoder_hidden_states=condition.text_NLD,
            txt_ids=condition.text_ids,
            img_ids=condition.place_ids,
            return_dict=False,
        )[0]
        return predicted[:, : latent.shape[1]]

    def noise(self, condition: Condition, generator: Draws) -> Tensor:
        """[N, S, C]: the noise that sampling starts from."""
        count, _, channels = condition.source_NSC.shape
        return gaussian(condition.source_NSC.new_empty(count, condition.tokens, channels), generator)

    def times(self, count: int, condition: Condition) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler."""
        return shifted_times(self.pipeline.scheduler, count, condition.tokens)

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image], condition: Condition) -> Tensor:
        """[N, S, C]: the clean latents of pictures of the condition's size, as targets of supervised training."""
        check_targets(pictures, condition)
        return self.condition([""] * len(pictures), pictures).source_NSC

    def encoded(self, condition: Condition) -> Mapping[str, Tensor]:
        """What each part of the pipeline gave for a condition, by the part's name."""
        parts = {"text_encoder": condition.pooled_ND, "text_encoder_2": condition.text_NLD}
        return {**parts, "vae": condition.source_NSC}

    def _unpacked(self, latent: Tensor, condition: Condition) -> Tensor:
        pipeline, (width, height) = self.pipeline, condition.size
        return pipeline._unpack_latents(latent, height, width, pipeline.vae_scale_factor)
