"""Prompts and their media as model inputs: token ids and tensors, made once per prompt, batched when needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.core.families import Family, family_of
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget, geometry_of
from rewards.prompt_form import PLAIN, PromptForm

MEDIA_FIELDS = (  # the media tensors that processors return and models accept
    "pixel_values",
    "pixel_values_videos",
    "image_grid_thw",
    "video_grid_thw",
    "second_per_grid_ts",
    "pixel_attention_mask",
    "image_sizes",
    "image_sizes_videos",
    "spatial_shapes",
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as model input: unpadded token ids, the processor's media tensors, and the (width, height) in pixels
    of each media item after the processor's resizing."""

    input_ids: list[int]
    tensors: dict[str, Tensor]
    seen_size: tuple[tuple[int, int], ...]


def encode(
    processor: Any,
    prompt: Sequence[Mapping[str, Any]],
    media: Sequence[Media],
    budget: VisionBudget,
    *,
    root: Path | None = None,
    task: str = "",
    form: PromptForm = PLAIN,
) -> Encoded:
    """`prompt`, a question of the `task` asked in this `form`, ready to be answered, with its media decoded and
    processed."""
    images, videos, metadata = [], [], []
    for item in media:
        if item.kind == "image":
            images.append(load_image(item, root))
        else:
            video = load_video(item, budget, root, geometry=geometry_of(processor))
            videos.append(video.frames)
            metadata.append(video.metadata())
    text = chat_text(processor, prompt, task, form)
    visual: dict[str, Any] = {"images": images} if images else {}
    if videos:
        visual |= {"videos": videos, "video_metadata": metadata, "do_sample_frames": False}
    features = processor(text=[text], return_tensors="pt", **visual)
    tensors = {key: torch.as_tensor(features[key]) for key in features if key in MEDIA_FIELDS}
    return Encoded(features["input_ids"][0].tolist(), tensors, seen_sizes(processor, media, tensors, images))


def chat_text(processor: Any, prompt: Sequence[Mapping[str, Any]], task: str = "", form: PromptForm = PLAIN) -> str:
    """The whole prompt as the chat template writes it, up to where the answer begins; media are placeholders."""
    messages, variables = form.asked(prompt, task), form.chat_template_kwargs
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)


def check_form(processor: Any, form: PromptForm) -> None:
    """InputError for variables that the chat template does not read, and for a system message that it leaves out."""
    template = str(processor.chat_template)
    for name in form.chat_template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise InputError(f"prompt.chat_template_kwargs: the chat template of this model does not read {name!r}")
    if form.system is not None:
        asked = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
        if form.system.strip() not in chat_text(processor, asked, form=form):
            raise InputError(
                "prompt.system: the chat template of this model leaves the system message out; put the text into the "
                "suffix or the template of each task"
            )


def collate(encoded: Sequence[Encoded], family: Family) -> dict[str, Tensor]:
    """The media tensors of several prompts as one batch, in order; an empty mapping if no prompt has media.

    Most processors list all images (or patches) of a batch one after another: those are concatenated, smaller ones
    padded with zeros. In a family with a row per prompt, prompts without media get a row of zeros, which the model
    drops.
    """
    keys = {key: value for prompt in encoded for key, value in prompt.tensors.items()}
    batch: dict[str, Tensor] = {}
    for key, like in keys.items():
        parts = [prompt.tensors.get(key) for prompt in encoded]
        if family.row_per_prompt:
            parts = [part if part is not None else like.new_zeros(1, *like.shape[1:]) for part in parts]
        batch[key] = _padded_cat([part for part in parts if part is not None])
    return batch


def media_inputs(
    encoded: Sequence[Encoded], input_ids: Tensor, config: Any, *, completion: int = 0
) -> dict[str, Tensor]:
    """The media of several prompts as model inputs for their `input_ids` [rows, T], of a model with this `config`.

    The last `completion` tokens are text, whatever their ids.
    """
    family = family_of(config)
    media = collate(encoded, family)
    if family.mrope and media:
        media["mm_token_type_ids"] = media_token_types(input_ids, config)
        media["mm_token_type_ids"][:, input_ids.shape[1] - completion :] = 0
    return media


def media_token_types(input_ids: Tensor, config: Any) -> Tensor:
    """`mm_token_type_ids` of the same shape as the ids: 1 at image tokens, 2 at video tokens, 0 elsewhere."""
    types = torch.zeros_like(input_ids)
    for value, name in ((1, "image_token_id"), (2, "video_token_id")):
        token = getattr(config, name, None)
        if token is not None:
            types[input_ids == token] = value
    return types


def seen_sizes(
    processor: Any, media: Sequence[Media], tensors: Mapping[str, Tensor], images: Sequence[Any]
) -> tuple[tuple[int, int], ...]:
    """(width, height) of each media item after the processor's resizing.

    From the patch grid if there is one. Otherwise the size of the picture itself, because models without a grid give
    boxes on the original picture.
    """
    patch = getattr(processor.image_processor, "patch_size", None)
    grids = {"image": iter(tensors.get("image_grid_thw", ())), "video": iter(tensors.get("video_grid_thw", ()))}
    pictures = iter(images)
    sizes = []
    for item in media:
        picture = next(pictures) if item.kind == "image" else None
        grid = next(grids[item.kind], None)
        if grid is not None and isinstance(patch, int):
            sizes.append((int(grid[2]) * patch, int(grid[1]) * patch))
        else:
            sizes.append(picture.size if picture is not None else (item.width or 0, item.height or 0))
    return tuple(sizes)


def _padded_cat(parts: Sequence[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [wanted - size for wanted, size in zip(shape, part.shape[1:], strict=True)]
        widths = [width for gap in reversed(missing) for width in (0, gap)]
        padded.append(torch.nn.functional.pad(part, widths) if any(missing) else part)
    return torch.cat(padded)
