"""Checks before training that prompts fit the model's context; prompts are never truncated, nor their pictures cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_engine.schema import Sample
from eval.answer.local import predicted_sizes, seen_frames
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.model.encoding import chat_text, encode, naming
from rewards.prompt_form import PLAIN, PromptForm

STAMPS = 12  # at most so many tokens do some processors write as a time stamp next to each pair of frames


def check_context(
    samples: Sequence[Sample],
    processor: Any,
    budget: VisionBudget,
    context: int | None,
    new: int,
    form: PromptForm = PLAIN,
) -> None:
    """Refuse prompts that leave no room for `new` tokens in the context.

    Lengths are predicted from the sizes of the media; a prompt near the limit is encoded. With a processor whose sizes
    cannot be predicted (tiles), the trainer checks each prompt when it is encoded.
    """
    if context is None or geometry_of(processor) is None:
        return
    for sample in samples:
        with naming(f"{sample.id} of {sample.source}"):
            if most_tokens(sample, processor, budget, form) + new > context:
                encoded = encode(processor, sample.prompt, sample.media, budget, task=sample.task, form=form)
                refuse_long(len(encoded.input_ids), new, context)


def most_tokens(sample: Sample, processor: Any, budget: VisionBudget, form: PromptForm = PLAIN) -> int:
    """An upper bound of the number of tokens of a prompt with its media."""
    geometry = geometry_of(processor)
    assert geometry is not None
    text = chat_text(processor, sample.prompt, sample.task, form)
    count = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    for media, (width, height) in zip(sample.media, predicted_sizes(sample, budget, geometry), strict=True):
        rounds = -(-seen_frames(media, budget, geometry) // geometry.temporal_patch)
        count += rounds * (width * height // geometry.factor**2 + (STAMPS if media.kind == "video" else 0))
    return count


def refuse_long(tokens: int, new: int, context: int | None) -> None:
    """Refuse a prompt of `tokens` tokens if `new` more do not fit into the context."""
    if context is not None and tokens + new > context:
        raise InputError(
            f"the prompt has {tokens} tokens; with max_completion_length={new} it does not fit the model's context of "
            f"{context}: lower vision.max_pixels, vision.total_pixels or vision.max_frames, or leave the sample out"
        )
