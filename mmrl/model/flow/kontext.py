"""Pipelines of the Flux Kontext family as policies: a picture and an instruction in, or a text alone; a picture out.

Encoding and decoding are those of diffusers' pipeline. Its loop is not used, since it gives no log-densities.
Shapes: N samples, S tokens of a latent, C channels of a token, L tokens of an instruction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.model.flow.pictures import SIDE, check_size
from mmrl.model.flow.process import Draws, gaussian


@dataclass(frozen=True, slots=True)
class Condition:
    """What N samples are made of: the encoded instructions and source pictures, all pictures of one size. Without
    sources `source_NSC` has no token."""

    text_NLD: Tensor
    pooled_ND: Tensor
    text_ids: Tensor
    source_NSC: Tensor
    place_ids: Tensor
    size: tuple[int, int]  # width, height in pixels

    def __len__(self) -> int:
        return len(self.source_NSC)

    @property
    def tokens(self) -> int:
        """The number of tokens of a latent."""
        return len(self.place_ids) - self.source_NSC.shape[1]

    def repeated(self, count: int) -> Condition:
        """Each sample `count` times, next to each other: a group reads its source once."""
        return self._with_rows(lambda part: part.repeat_interleave(count, dim=0))

    def only(self, place: int) -> Condition:
        """The sample at `place` alone."""
        return self._with_rows(lambda part: part[place : place + 1])

    def tiled(self, count: int) -> Condition:
        """All samples in their order, `count` times."""
        return self._with_rows(lambda part: part.repeat(count, *[1] * (part.dim() - 1))) if count > 1 else self

    def _with_rows(self, change: Callable[[Tensor], Tensor]) -> Condition:
        text, pooled, source = map(change, (self.text_NLD, self.pooled_ND, self.source_NSC))
        return Condition(text, pooled, self.text_ids, source, self.place_ids, self.size)


class KontextPolicy:
    """A `FluxKontextPipeline` as a policy; `transformer` has the weights that learn, `network` predicts velocities."""

    def __init__(self, pipeline: Any, *, guidance: float = 3.5, text_tokens: int = 512, side: int = SIDE) -> None:
        if type(pipeline).__name__ != "FluxKontextPipeline":
            raise InputError(f"the pipeline is a {type(pipeline).__name__}; must be a FluxKontextPipeline")
        if not hasattr(pipeline.scheduler, "sigmas"):
            raise InputError(f"the scheduler {type(pipeline.scheduler).__name__} has no sigmas; must be a flow's")
        self.pipeline, self.guidance, self.network = pipeline, guidance, pipeline.transformer
        self.side = side  # of pictures of texts, in pixels
        self.text_tokens = min(text_tokens, pipeline.tokenizer_2.model_max_length)

    @property
    def transformer(self) -> Any:
        """The module of the pipeline that predicts velocities."""
        return self.pipeline.transformer

    @property
    def multiple(self) -> int:
        """The number of pixels of which the sides of pictures are multiples."""
        return 2 * self.pipeline.vae_scale_factor

    def using(self, network: Callable[..., Any]) -> KontextPolicy:
        """The same policy with the velocities of another network: a copy of earlier weights, or one that is wrapped."""
        other = copy.copy(self)
        other.network = network
        return other

    @torch.no_grad()
    def condition(
        self,
        instructions: Sequence[str],
        sources: Sequence[Image.Image] | None,
        size: tuple[int, int] | None = None,
    ) -> Condition:
        """The encoded instructions and pictures of N prompts; of texts alone, `sources` is None and pictures get the
        `size`. All pictures must have one size that the VAE takes."""
        if sources is not None:
            self._check(instructions, sources)
            size = sources[0].size
        assert size is not None
        check_size(size, self.multiple)
        pipeline, (width, height) = self.pipeline, size
        text, pooled, text_ids = pipeline.encode_prompt(list(instructions), max_sequence_length=self.text_tokens)
        shown = None if sources is None else [picture.convert("RGB") for picture in sources]
        pixels = None if shown is None else pipeline.image_processor.preprocess(shown, height, width)
        channels, device = self.transformer.config.in_channels // 4, pipeline._execution_device
        noise, source, place_ids, source_ids = pipeline.prepare_latents(
            pixels, len(text), channels, height, width, text.dtype, device, torch.Generator(device).manual_seed(0)
        )
        if source is None:
            return Condition(text, pooled, text_ids, noise[:, :0], place_ids, size)
        return Condition(text, pooled, text_ids, source, torch.cat([place_ids, source_ids]), size)

    def _check(self, instructions: Sequence[str], sources: Sequence[Image.Image]) -> None:
        if not sources or len(instructions) != len(sources):
            raise InputError(
                f"{len(instructions)} instructions for {len(sources)} pictures; each needs one of the other"
            )
        sizes = {picture.size for picture in sources}
        if len(sizes) > 1:
            raise InputError(f"pictures of the sizes {sorted(sizes)} in one batch; must have one size")

    def velocity(self, latent_NSC: Tensor, time_N: Tensor, condition: Condition) -> Tensor:
        """[N, S, C]: the predicted velocity e - x_0 at a time of its own for each sample."""
        guided = self.transformer.config.guidance_embeds
        predicted = self.network(
            hidden_states=torch.cat([latent_NSC, condition.source_NSC], dim=1),
            timestep=time_N.to(latent_NSC),
            guidance=torch.full_like(time_N, self.guidance) if guided else None,
            pooled_projections=condition.pooled_ND,
            encoder_hidden_states=condition.text_NLD,
            txt_ids=condition.text_ids,
            img_ids=condition.place_ids,
            return_dict=False,
        )[0]
        return predicted[:, : latent_NSC.shape[1]]

    def noise(self, condition: Condition, generator: Draws) -> Tensor:
        """[N, S, C]: the noise that sampling starts from."""
        count, _, channels = condition.source_NSC.shape
        return gaussian(condition.source_NSC.new_empty(count, condition.tokens, channels), generator)

    def times(self, count: int, condition: Condition) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler."""
        from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

        scheduler = self.pipeline.scheduler
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        settings = [
            scheduler.config.get(name, default) for name, default in zip(names, (256, 4096, 0.5, 1.15), strict=True)
        ]
        shift = calculate_shift(condition.tokens, *settings)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count), mu=shift)
        return scheduler.sigmas.tolist()

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image], condition: Condition) -> Tensor:
        """[N, S, C]: the clean latents of pictures of the condition's size, as targets of supervised training."""
        empty = [""] * len(pictures)
        self._check(empty, pictures)
        if pictures[0].size != condition.size:
            raise InputError(f"pictures of {pictures[0].size} for sources of {condition.size}; must have one size")
        return self.condition(empty, pictures).source_NSC

    @torch.no_grad()
    def pictures(self, latent_NSC: Tensor, condition: Condition) -> list[Image.Image]:
        """The pictures of clean latents."""
        return self.pipeline.image_processor.postprocess(self._decoded(latent_NSC, condition), output_type="pil")

    def pixels(self, latent_NSC: Tensor, condition: Condition) -> Tensor:
        """[N, 3, H, W] in [0, 1]: the same as tensors, through which gradients flow."""
        return self.pipeline.image_processor.postprocess(self._decoded(latent_NSC, condition), output_type="pt")

    def _decoded(self, latent_NSC: Tensor, condition: Condition) -> Tensor:
        pipeline, (width, height) = self.pipeline, condition.size
        unpacked = pipeline._unpack_latents(latent_NSC, height, width, pipeline.vae_scale_factor)
        config = pipeline.vae.config
        return pipeline.vae.decode(unpacked / config.scaling_factor + config.shift_factor, return_dict=False)[0]
