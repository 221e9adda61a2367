"""Qwen-Image-Edit as a policy: a picture and an instruction in, a picture out.

The text encoder, a Qwen2.5-VL, reads the source picture as well. Shapes: N samples, S tokens of a latent, C channels of
a token, L tokens of an instruction with its picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mmrl.model.flow import policy
from mmrl.model.flow.pictures import EDIT
from mmrl.model.flow.policy import PicturePolicy, check_targets, denormalised, mixed, shifted_times
from mmrl.model.flow.process import Draws, gaussian

EMPTY = " "  # the instruction that guidance leads away from, as in the model's card


@dataclass(frozen=True, slots=True)
class Condition(policy.Condition):
    """The encoded instructions, each with its picture; the same with the empty instruction, of no token where
    velocities are not mixed; and the source pictures. A mask is 0 where an instruction is shorter than the longest."""

    PER_SAMPLE: ClassVar[tuple[str, ...]] = (
        *policy.Condition.PER_SAMPLE, "mask_NL", "empty_NLD", "empty_mask_NL", "source_NSC",
    )  # fmt: skip

    mask_NL: Tensor
    empty_NLD: Tensor
    empty_mask_NL: Tensor
    source_NSC: Tensor


class QwenImageEditPolicy(PicturePolicy):
    """A `QwenImageEditPipeline` as a policy. With `guidance` above 1 the velocity is mixed of two, and gets the norm of
    the one with the instruction, token by token. The network sees the source in the size of what is made."""

    PIPELINE = "QwenImageEditPipeline"
    TASKS = (EDIT,)

    def __init__(self, pipeline: Any, **settings: Any) -> None:
        super().__init__(pipeline, **settings)
        pipeline.text_encoder.register_forward_pre_hook(_with_places, with_kwargs=True)

    @classmethod
    def multiple_of(cls, vae: Mapping[str, Any]) -> int:
        """As `PicturePolicy.multiple_of`."""
        return 2 * 2 ** len(vae["temperal_downsample"])

    @property
    def mixes(self) -> bool:
        """Whether a velocity is mixed of two, with the instruction and without (classifier-free guidance)."""
        return self.guidance > 1

    def encode(self, texts: list[str], sources: Sequence[Image.Image] | None, size: tuple[int, int]) -> Condition:
        """As `PicturePolicy.encode`."""
        shown = [picture.convert("RGB") for picture in sources or ()]
        every = [*texts, *[EMPTY] * len(texts)] if self.mixes else texts
        text, mask = self.pipeline.encode_prompt(every, image=shown * (len(every) // len(texts)))
        mask = text.new_ones(text.shape[:2], dtype=torch.long) if mask is None else mask
        source = self._encoded(shown, size)
        if not self.mixes:
            return Condition(size, text, mask, text[:, :0], mask[:, :0], source)
        (asked, empty), (asked_mask, empty_mask) = text.chunk(2), mask.chunk(2)
        return Condition(size, asked, asked_mask, empty, empty_mask, source)

    def velocity(self, latent: Tensor, time_N: Tensor, condition: Condition) -> Tensor:
        """[N, S, C]: the predicted velocity e - x_0 at a time of its own for each sample."""
        text, mask, times = condition.text_NLD, condition.mask_NL, 1 if not self.mixes else 2
        if self.mixes:
            text, mask = torch.cat([condition.empty_NLD, text]), torch.cat([condition.empty_mask_NL, mask])
        shown = torch.cat([latent, condition.source_NSC], dim=1)
        width, height = (side // self.multiple for side in condition.size)
        predicted = self.network(
            hidden_states=torch.cat([shown] * times),
            timestep=torch.cat([time_N.to(latent)] * times),
            encoder_hidden_states=text,
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, height, width)] * 2] * len(text),
            return_dict=False,
        )[0][:, : latent.shape[1]]
        if not self.mixes:
            return predicted
        asked, guided = predicted.chunk(2)[1], mixed(predicted, self.guidance)
        return guided * (asked.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))

    def noise(self, condition: Condition, generator: Draws) -> Tensor:
        """[N, S, C]: the noise that sampling starts from."""
        return gaussian(condition.source_NSC, generator)

    def times(self, count: int, condition: Condition) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler."""
        return shifted_times(self.pipeline.scheduler, count, condition.source_NSC.shape[1])

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image], condition: Condition) -> Tensor:
        """[N, S, C]: the clean latents of pictures of the condition's size, as targets of supervised training."""
        check_targets(pictures, condition)
        return self._encoded([picture.convert("RGB") for picture in pictures], condition.size)

    def encoded(self, condition: Condition) -> Mapping[str, Tensor]:
        """What each part of the pipeline gave for a condition, by the part's name."""
        return {"text_encoder": condition.text_NLD, "vae": condition.source_NSC}

    def _encoded(self, pictures: list[Image.Image], size: tuple[int, int]) -> Tensor:
        """[N, S, C]: the latents of pictures."""
        pipeline, (width, height) = self.pipeline, size
        pixels = pipeline.image_processor.preprocess(pictures, height, width).unsqueeze(2)  # a video of one frame
        channels, device = self.transformer.config.in_channels // 4, pipeline._execution_device
        noise = torch.Generator(device).manual_seed(0)
        return pipeline.prepare_latents(
            pixels, len(pictures), channels, height, width, pipeline.vae.dtype, device, noise
        )[1]

    def decoded(self, latent: Tensor, condition: Condition) -> Tensor:
        """As `PicturePolicy.decoded`."""
        pipeline, (width, height) = self.pipeline, condition.size
        frames = pipeline._unpack_latents(latent, height, width, pipeline.vae_scale_factor)
        return pipeline.vae.decode(denormalised(frames, pipeline.vae), return_dict=False)[0][:, :, 0]


def _with_places(encoder: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Say which tokens are of the picture. The weights were trained with places in two dimensions for these, which
    transformers 5 gives them only where it is told, and the pipeline of diffusers 0.42 does not tell it."""
    shows = (inputs["input_ids"] == encoder.config.image_token_id).int()
    return args, {"mm_token_type_ids": shows, **inputs}
