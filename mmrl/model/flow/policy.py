"""A pipeline of diffusers as a policy: what all of them share, and what each class must say.

Encoding and decoding are those of the pipeline. Its loop is not used, since it gives no log-densities.
Shapes: N samples, L tokens of a text; latents are [N, ...].
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import as_media
from mmrl.model.flow.pictures import EDIT, FRAMES, SIDE, check_size
from mmrl.model.flow.process import Draws

FRAME = 96  # pixels a side of a step on a film, at most


@dataclass(frozen=True, slots=True)
class Condition:
    """What N samples are made of, all of one size in pixels (width, height). PER_SAMPLE names the tensors that have a
    row for each."""

    PER_SAMPLE: ClassVar[tuple[str, ...]] = ("text_NLD",)

    size: tuple[int, int]
    text_NLD: Tensor

    def __len__(self) -> int:
        return len(self.text_NLD)

    def repeated(self, count: int) -> Self:
        """Each sample `count` times, next to each other: a group reads its source once."""
        return self._with_rows(lambda part: part.repeat_interleave(count, dim=0))

    def only(self, place: int) -> Self:
        """The sample at `place` alone."""
        return self._with_rows(lambda part: part[place : place + 1])

    def tiled(self, count: int) -> Self:
        """All samples in their order, `count` times."""
        return self._with_rows(lambda part: torch.cat([part] * count)) if count > 1 else self

    def _with_rows(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(getattr(self, name)) for name in self.PER_SAMPLE})


class PicturePolicy(ABC):
    """A pipeline as a policy: `transformer` has the weights that learn, `network` predicts velocities, `side` is that
    of pictures of texts, in pixels, and `frames` counts those of a video."""

    PIPELINE: ClassVar[str]  # the name of its class
    TASKS: ClassVar[tuple[str, ...]]  # what it can be asked, with at most one that has texts alone

    def __init__(
        self, pipeline: Any, *, guidance: float = 3.5, text_tokens: int = 512, side: int = SIDE, frames: int = FRAMES
    ) -> None:
        if type(pipeline).__name__ != self.PIPELINE:
            raise InputError(f"the pipeline is a {type(pipeline).__name__}; must be a {self.PIPELINE}")
        if not hasattr(pipeline.scheduler, "sigmas"):
            raise InputError(f"the scheduler {type(pipeline.scheduler).__name__} has no sigmas; must be a flow's")
        self.pipeline, self.guidance, self.network = pipeline, guidance, pipeline.transformer
        self.side, self.frames, self.text_tokens = side, frames, text_tokens

    @property
    def transformer(self) -> Any:
        """The module of the pipeline that predicts velocities."""
        return self.pipeline.transformer

    @property
    def mixes(self) -> bool:
        """Whether a velocity is mixed of two, with the text and without (classifier-free guidance)."""
        return False

    @property
    def multiple(self) -> int:
        """The number of pixels of which the sides of pictures are multiples."""
        return self.multiple_of(self.pipeline.vae.config)

    @classmethod
    def multiple_of(cls, vae: Mapping[str, Any]) -> int:
        """The same, from the config of the pipeline's VAE: each of its levels but one halves the sides, and so do the
        patches. KeyError for the config of another class."""
        return 2 ** len(vae["block_out_channels"])

    def using(self, network: Callable[..., Any]) -> Self:
        """The same policy with the velocities of another network: a copy of earlier weights, or one that is wrapped."""
        other = copy.copy(self)
        other.network = network
        return other

    @classmethod
    def check_tasks(cls, tasks: Iterable[str]) -> None:
        """InputError for a task that it cannot be asked."""
        if others := sorted({*tasks} - {*cls.TASKS}):
            raise InputError(f"a {cls.PIPELINE} can be asked {' and '.join(cls.TASKS)}; the data have {others[0]}")

    @torch.no_grad()
    def condition(
        self,
        instructions: Sequence[str],
        sources: Sequence[Image.Image] | None,
        size: tuple[int, int] | None = None,
    ) -> Any:
        """The encoded instructions and pictures of N prompts; of texts alone, `sources` is None and pictures get the
        `size`. All pictures must have one size that the VAE takes."""
        if (sources is None and self.TASKS == (EDIT,)) or (sources is not None and EDIT not in self.TASKS):
            given = "texts alone" if sources is None else "source pictures to edit"
            raise InputError(f"a {self.PIPELINE} can be asked {' and '.join(self.TASKS)}; it was given {given}")
        if sources is not None:
            check_pictures(instructions, sources)
            size = sources[0].size
        assert size is not None
        check_size(size, self.multiple)
        return self.encode(list(instructions), sources, size)

    @abstractmethod
    def encode(self, texts: list[str], sources: Sequence[Image.Image] | None, size: tuple[int, int]) -> Any:
        """The condition of what `condition` has checked."""

    @abstractmethod
    def velocity(self, latent: Tensor, time_N: Tensor, condition: Any) -> Tensor:
        """[N, ...]: the predicted velocity e - x_0 at a time of its own for each sample."""

    @abstractmethod
    def noise(self, condition: Any, generator: Draws) -> Tensor:
        """[N, ...]: the noise that sampling starts from."""

    @abstractmethod
    def times(self, count: int, condition: Any) -> list[float]:
        """The times of `count` steps, from 1 to 0, by the pipeline's scheduler."""

    @abstractmethod
    def latents(self, pictures: Sequence[Image.Image], condition: Any) -> Tensor:
        """[N, ...]: the clean latents of pictures of the condition's size, as targets of supervised training."""

    @abstractmethod
    def encoded(self, condition: Any) -> Mapping[str, Tensor]:
        """What each part of the pipeline gave for a condition, by the part's name."""

    @torch.no_grad()
    def pictures(self, latent: Tensor, condition: Any) -> list[Image.Image]:
        """The pictures of clean latents."""
        return self.pipeline.image_processor.postprocess(self.decoded(latent, condition), output_type="pil")

    def shots(self, latent: Tensor, condition: Any) -> list[list[Image.Image]]:
        """The frames of what clean latents show: one of a picture."""
        return [[picture] for picture in self.pictures(latent, condition)]

    def media(self, shot: Sequence[Image.Image]) -> Media:
        """The frames of a sample as a file in memory."""
        return as_media(shot[0])

    def film(self, latents: Sequence[Tensor], condition: Any) -> Image.Image:
        """The latents [1, ...] of the steps of one sample as small pictures next to each other."""
        frames = self.pictures(torch.cat(list(latents)), condition)
        for frame in frames:
            frame.thumbnail((FRAME, FRAME))
        width, height = frames[0].size
        strip = Image.new("RGB", (width * len(frames), height))
        for number, frame in enumerate(frames):
            strip.paste(frame, (number * width, 0))
        return strip

    def pixels(self, latent: Tensor, condition: Any) -> Tensor:
        """[N, 3, H, W] in [0, 1]: the same as tensors, through which gradients flow."""
        return self.pipeline.image_processor.postprocess(self.decoded(latent, condition), output_type="pt")

    def decoded(self, latent: Tensor, condition: Any) -> Tensor:
        """[N, 3, ...]: what the VAE makes of latents, in [-1, 1]."""
        vae = self.pipeline.vae
        shown = self._unpacked(latent, condition) / vae.config.scaling_factor + vae.config.shift_factor
        return vae.decode(shown, return_dict=False)[0]

    def _unpacked(self, latent: Tensor, condition: Any) -> Tensor:
        """[N, C, h, w]: latents as the VAE takes them."""
        return latent


def mixed(predicted: Tensor, guidance: float) -> Tensor:
    """[N, ...]: the velocity of classifier-free guidance, v_empty + guidance (v_text - v_empty), of [2 N, ...]: first
    those without the text, then those with it."""
    empty, asked = predicted.chunk(2)
    return empty + guidance * (asked - empty)


def check_pictures(instructions: Sequence[str], sources: Sequence[Image.Image]) -> None:
    """InputError unless there is a picture for each instruction, and all are of one size."""
    if not sources or len(instructions) != len(sources):
        raise InputError(f"{len(instructions)} instructions for {len(sources)} pictures; each needs one of the other")
    sizes = {picture.size for picture in sources}
    if len(sizes) > 1:
        raise InputError(f"pictures of the sizes {sorted(sizes)} in one batch; must have one size")


def check_targets(pictures: Sequence[Image.Image], condition: Condition) -> None:
    """InputError unless there is a picture for each sample of a condition, all of its size."""
    check_pictures([""] * len(condition), pictures)
    if pictures[0].size != condition.size:
        raise InputError(f"pictures of {pictures[0].size} for prompts of {condition.size}; must have one size")


def denormalised(latent: Tensor, vae: Any) -> Tensor:
    """[N, C, F, h, w]: latents of a VAE of videos, brought back from mean 0 and spread 1."""
    mean, spread = (torch.tensor(each).to(latent) for each in (vae.config.latents_mean, vae.config.latents_std))
    return latent * spread.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)


def shifted_times(scheduler: Any, count: int, tokens: int) -> list[float]:
    """The times of `count` steps, from 1 to 0, by a scheduler of the Flux family: the more tokens a latent has, the
    more of them lie at the noisy end."""
    from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    settings = [
        scheduler.config.get(name, default) for name, default in zip(names, (256, 4096, 0.5, 1.15), strict=True)
    ]
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count), mu=calculate_shift(tokens, *settings))
    return scheduler.sigmas.tolist()
