"""Prompts and their media as model inputs: token ids and tensors, made once per prompt, batched in `inputs.py`.

A prompt is encoded by the processor's own `apply_chat_template(..., tokenize=True)`, whatever the family. All that it
returns is kept, under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_engine.schema import user_prompt
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.video import Video, load_video
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.model.chat import Chat, chat_of
from rewards.prompt_form import PLAIN, PromptForm

OURS = ("input_ids", "attention_mask", "labels")  # made anew for every batch
PARTS: dict[MediaKind, str] = {
    "image": "image_processor",
    "video": "video_processor",
}  # of a processor, by the kind of media


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as model input.

    `input_ids` [L] are not padded. `tensors` are all others that the processor returned; those in `along` have a value
    for every token, [1, L, ...], the others belong to the media. `seen_size` is the (width, height) in pixels of each
    media item after the processor's resizing, `kinds` has the kind of each. `opened` is what the prompt has already
    written of the answer, such as `<think>`. `lost` names what the processor returned and no tensor can hold. A row of
    several turns has the media of its prompt and those `behind` it, which tools have returned; its `input_ids` and
    `seen_size` are those of the `prompt`, and `along` reaches as far as the media do.
    """

    input_ids: list[int]
    tensors: dict[str, Tensor]
    seen_size: tuple[tuple[int, int], ...]
    along: frozenset[str] = frozenset()
    kinds: tuple[MediaKind, ...] = ()
    opened: str = ""
    lost: frozenset[str] = frozenset()
    behind: tuple[Encoded, ...] = ()
    prompt: Encoded | None = None

    @property
    def asked(self) -> Encoded:
        """The prompt alone: the same object for all rollouts of a prompt."""
        return self.prompt or self


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
    processed.

    A kind of media that the processor does not take, and media of which nothing reaches the model, are an InputError.
    """
    check_kinds(processor, {item.kind for item in media})
    shown: dict[str, list[Any]] = {"image": [], "video": []}
    for item in media:
        if item.kind == "image":
            shown["image"].append(load_image(item, root))
        else:
            shown["video"].append(load_video(item, budget, root, geometry=geometry_of(processor)))
    return encoded(processor, asked(processor, prompt, task, form), shown["image"], shown["video"], media)


def encoded(
    processor: Any, chat: Chat, images: Sequence[Image.Image], videos: Sequence[Video], media: Sequence[Media]
) -> Encoded:
    """`encode` for media that are decoded already; `media` has the order of both kinds."""
    features = chat.features(processor, images, [video.frames for video in videos], [v.metadata() for v in videos])
    ids = torch.as_tensor(features["input_ids"])[0].tolist()
    made = {key: _tensor(features[key]) for key in features if key not in OURS}
    tensors = {key: value for key, value in made.items() if value is not None}
    of_media = {name for part in PARTS.values() for name in getattr(getattr(processor, part, None), _NAMES, ())}
    along = frozenset(key for key, value in tensors.items() if value.shape[:2] == (1, len(ids)) and key not in of_media)
    if media and not any(value.numel() for key, value in tensors.items() if key not in along):
        raise InputError(f"{type(processor).__name__} shows the model nothing of {_kinds(media)}")
    return Encoded(
        ids,
        tensors,
        seen_sizes(processor, media, tensors, images),
        along,
        tuple(item.kind for item in media),
        chat.opened,
        frozenset(made.keys() - tensors.keys()),
    )


_NAMES = "model_input_names"  # of an image or video processor: the fields that it makes


BLANK = 56  # pixels of a side: several vision tokens, since some models drop the dimension of a picture of one


def blank_prompt(processor: Any, kinds: Sequence[MediaKind]) -> Encoded:
    """A prompt without words that shows a black picture, a black video of four frames, or both."""
    frames = np.zeros((4, BLANK, BLANK, 3), np.uint8)
    media = [Media(kind, width=BLANK, height=BLANK) for kind in kinds]
    pictures = [Image.fromarray(frames[0])] * kinds.count("image")
    clip = Video(frames, [0, 1, 2, 3], fps=2.0, num_frames=4, duration=2.0, backend="none")
    return encoded(processor, asked(processor, user_prompt("", kinds)), pictures, [clip] * kinds.count("video"), media)


def kinds_of(processor: Any) -> set[MediaKind]:
    """The kinds of media that the processor takes."""
    return {kind for kind, part in PARTS.items() if getattr(processor, part, None) is not None}


def check_kinds(processor: Any, kinds: Collection[MediaKind]) -> None:
    """Refuse kinds of media that the processor does not take: most would be swallowed without a word."""
    for kind in sorted(set(kinds) - kinds_of(processor)):
        raise InputError(
            f"{type(processor).__name__} takes no {kind}s: it has no {PARTS[kind]}; leave samples with {kind}s out, or "
            "choose a model that sees them"
        )


@contextmanager
def naming(sample: str) -> Iterator[None]:
    """Add the sample to the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"sample {sample}: {error}") from error


def asked(processor: Any, prompt: Sequence[Mapping[str, Any]], task: str = "", form: PromptForm = PLAIN) -> Chat:
    """A question of the `task` in this `form`, as the chat template reads it."""
    return chat_of(processor, form.asked(prompt, task), form.chat_template_kwargs)


def chat_text(processor: Any, prompt: Sequence[Mapping[str, Any]], task: str = "", form: PromptForm = PLAIN) -> str:
    """The whole prompt as the chat template writes it, up to where the answer begins; media are placeholders."""
    return asked(processor, prompt, task, form).text


def check_form(processor: Any, form: PromptForm) -> None:
    """InputError for variables that the chat template does not read, and for a system message that it leaves out."""
    template = str(processor.chat_template)
    for name in form.chat_template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise InputError(f"prompt.chat_template_kwargs: the chat template of this model does not read {name!r}")
    if form.system is not None:
        try:
            chat_text(processor, user_prompt("?"), form=form)
        except InputError:
            raise InputError(
                "prompt.system: the chat template of this model leaves the system message out; put the text into the "
                "suffix or the template of each task"
            ) from None


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


def _tensor(value: Any) -> Tensor | None:
    """A value as a tensor; None for lists of unequal length, and for what has no numbers."""
    try:
        return torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError):
        return None


def _kinds(media: Sequence[Media]) -> str:
    counts = {kind: sum(item.kind == kind for item in media) for kind in PARTS}
    return " and ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items() if count)
