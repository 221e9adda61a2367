"""Batches of encoded prompts as a model's inputs: what its `forward` names is handed on, whatever it is called.

Shapes: R rows, T tokens of a row, L tokens of a prompt.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.core.families import family_of
from mmrl.core.media.item import MediaKind
from mmrl.model.encoding import Encoded, blank_prompt, check_kinds


def bare(model: Any) -> Any:
    """`model` without adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def context_of(model: Any) -> int | None:
    """The number of positions of the model, from its config; None if the config does not give it."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def core(model: Any) -> Any:
    """`model` without its language head and without adapters: the module that makes multimodal positions."""
    return getattr(bare(model), "model", bare(model))


def has_rope_index(model: Any) -> bool:
    """Whether the model has multimodal rotary positions (time, height, width), which it makes from media and types."""
    return hasattr(core(model), "get_rope_index") and hasattr(core(model), "rope_deltas")


def check_inputs(model: Any, processor: Any, shown: Iterable[Sequence[MediaKind]]) -> None:
    """Refuse a model whose processor does not take the media `shown` by some samples, makes of them what cannot be
    handed on, or cannot have them in one batch."""
    counts: set[tuple[MediaKind, ...]] = {tuple(sorted(kinds)) for kinds in shown}
    kinds: list[MediaKind] = sorted({kind for row in counts for kind in row})
    config = bare(model).config
    check_kinds(processor, kinds)
    for kind in kinds:
        if kind in family_of(config).fails_on:
            raise InputError(f"{config.model_type} fails on {kind}s in this version of transformers; leave them out")
    _refuse_mixture(config, counts)
    for kind in kinds:
        row = blank_prompt(processor, [kind])
        media_inputs([row], torch.tensor([row.input_ids]), model)


def _refuse_mixture(config: Any, shown: Iterable[Sequence[MediaKind]]) -> None:
    """Refuse media that a model of this config cannot have together; `shown` are the kinds of each prompt's media."""
    family, rows = family_of(config), list(shown)
    together = {kind for row in rows for kind in row}
    if family.one_kind_in == "batch" and len(together) > 1:
        raise InputError(
            f"{config.model_type} does not take images and videos in one batch; use it on one kind of them"
        )
    if family.one_kind_in == "prompt" and any(len(set(row)) > 1 for row in rows):
        raise InputError(
            f"{config.model_type} does not take an image and a video in one prompt; leave such samples out"
        )
    counts = sorted({len(row) for row in rows})
    if family.equal_counts and len(counts) > 1:
        raise InputError(
            f"{config.model_type} takes as many images in every prompt of a batch, and these have "
            f"{' or '.join(map(str, counts))}; use it on samples with one number of images"
        )


def media_inputs(
    rows: Sequence[Encoded], input_ids: Tensor, model: Any, *, completion: int = 0, left: bool = True
) -> dict[str, Tensor]:
    """What `model` takes of the prompts `rows` beside their `input_ids` [R, T].

    A prompt ends before the last `completion` tokens, with padding on its left; or it begins the row (`left=False`).
    """
    _refuse_mixture(bare(model).config, [row.kinds for row in rows])
    length = input_ids.shape[1]
    starts = [length - completion - len(row.input_ids) if left else 0 for row in rows]
    step_RT = torch.arange(length) - torch.tensor(starts)[:, None]
    return collate(rows, model) | along_inputs(rows, step_RT, model)


def collate(rows: Sequence[Encoded], model: Any) -> dict[str, Tensor]:
    """The media tensors of several prompts as one batch, in order; an empty mapping if no prompt has media.

    Most processors list all images (or patches) of a batch one after another: those are concatenated, smaller ones
    padded with zeros. In a family with a row per prompt, prompts without media get a row of zeros, which the model
    drops.
    """
    family = family_of(bare(model).config)
    batch: dict[str, Tensor] = {}
    for key, like in _taken(rows, model, along=False).items():
        parts = [row.tensors.get(key) for row in rows]
        if family.row_per_prompt:
            parts = [part if part is not None else like.new_zeros(1, *like.shape[1:]) for part in parts]
        along = family.pixels_along if key.startswith("pixel_values") else 0
        batch[key] = _padded_cat(key, [part for part in parts if part is not None], along)
    return batch


def along_inputs(rows: Sequence[Encoded], step_RT: Tensor, model: Any) -> dict[str, Tensor]:
    """The tensors with a value per token, as rows whose token at place t is the prompt's token number `step_RT`.

    Before a prompt they are 0. Behind it the value of its last token goes on, as in `generate` of transformers, unless
    the family says otherwise.
    """
    after, batch = family_of(bare(model).config).type_of_answers, {}
    for key, like in _taken(rows, model, along=True).items():
        shapes = [row.tensors[key].shape[2:] for row in rows if key in row.tensors]
        whole = like.new_zeros(*step_RT.shape, *(max(sizes) for sizes in zip(*shapes, strict=True)))
        for r, row in enumerate(rows):
            if key not in row.tensors:
                continue
            of_prompt = row.tensors[key][0]
            step_T, last = step_RT[r].cpu(), len(of_prompt) - 1
            values = of_prompt[step_T.clamp(0, last)]
            values[step_T < 0] = 0
            if after is not None:
                values[step_T > last] = after
            whole[(r, slice(None), *(slice(size) for size in values.shape[1:]))] = values
        batch[key] = whole.to(step_RT.device)
    return batch


def _taken(rows: Sequence[Encoded], model: Any, *, along: bool) -> dict[str, Tensor]:
    """A tensor of each name that `forward` takes, of those with a value per token or of the others."""
    names = forward_names(model)
    for name in sorted(names & {name for row in rows for name in row.lost}):
        raise InputError(f"{type(bare(model)).__name__} takes {name}, of which its processor makes no tensor")
    return {
        key: value for row in rows for key, value in row.tensors.items() if key in names and (key in row.along) == along
    }


def forward_names(model: Any) -> frozenset[str]:
    """The names of what the model's `forward` takes."""
    return _names_of(type(bare(model)))


@functools.cache
def _names_of(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)  # pyright: ignore[reportFunctionMemberAccess]


def _padded_cat(key: str, parts: Sequence[Tensor], along: int) -> Tensor:
    if key.endswith("_videos") and len({part.shape[1] for part in parts if part.dim() == 5}) > 1:
        frames = sorted({part.shape[1] for part in parts})
        raise InputError(
            f"videos of {' and '.join(map(str, frames))} frames in one batch: this model takes videos of one length; "
            "set vision.min_frames and vision.max_frames to the same number"
        )
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    padded = []
    for part in parts:
        shape[along] = part.shape[along]
        missing = [wanted - size for wanted, size in zip(shape, part.shape, strict=True)]
        widths = [width for gap in reversed(missing) for width in (0, gap)]
        padded.append(torch.nn.functional.pad(part, widths) if any(missing) else part)
    return torch.cat(padded, dim=along)
