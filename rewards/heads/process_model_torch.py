"""The raw scores of a head at the ends of the steps of answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from rewards.base import Rollout, Verdict, abstain, failed, unparsed
from rewards.heads.checkpoint_torch import Checkpoint, chat, pictures_by_media, plain
from rewards.heads.reward_model_torch import Row, padded
from rewards.heads.token_scores_torch import asked, behind, token_scores, tokens_of

KINDS = ("process", "distilled")
Steps = Sequence[tuple[int, int]]  # the bounds of the steps in the completion


def step_scores(
    rollouts: Sequence[Rollout], steps: Sequence[Steps], *, model: str, device: str, dtype: str, batch: int
) -> list[list[float] | Verdict]:
    """The bare outputs of the head at the ends of the steps of each rollout, or the verdict where there are none."""
    head = token_scores(model, KINDS, device, dtype)
    found: list[Any] = [step_row(*one, head) for one in zip(rollouts, steps, strict=True)]
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    for i, scores in zip(ready, scores_at([found[i] for i in ready], head, batch), strict=True):
        found[i] = scores
    return found


@torch.inference_mode()
def scores_at(rows: Sequence[tuple[Row, list[int]]], head: Checkpoint, batch: int = 8) -> list[list[float]]:
    """The scores of a head at the given places of each row, similar lengths together."""
    scores: list[list[float]] = [[]] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]["input_ids"]))
    for start in range(0, len(order), batch):
        taken = order[start : start + batch]
        inputs = padded([rows[i][0] for i in taken], head)
        logits_BT = head.model(**{name: value.to(head.model.device) for name, value in inputs.items()}).logits
        for i, logits_T in zip(taken, logits_BT.float(), strict=True):
            scores[i] = logits_T[rows[i][1]].tolist()
    return scores


def step_row(rollout: Rollout, steps: Steps, head: Checkpoint) -> tuple[Row, list[int]] | Verdict:
    """A rollout as inputs of the head and where its steps end, or the verdict where it cannot be read."""
    return row_behind(prompt_row(rollout, head), rollout, steps, head)


def prompt_row(rollout: Rollout, head: Checkpoint) -> Row | Verdict:
    """The prompt of a rollout as inputs of the head, or the verdict where its media cannot be read."""
    try:
        return asked(head, chat(rollout, head.tokenizer, pictures_by_media(rollout) if head.processor else None))
    except MediaError as error:
        return abstain(str(error))


def row_behind(
    prompt: Row | Verdict, rollout: Rollout, steps: Steps, head: Checkpoint
) -> tuple[Row, list[int]] | Verdict:
    """`prompt` and the answer of a rollout behind it as inputs of the head, and where its steps end."""
    text = rollout.completion
    if not plain(text, head.tokenizer).strip():
        return unparsed("empty completion")
    if isinstance(prompt, Verdict):
        return prompt
    parts = [text[start:stop] for start, stop in pairwise([0, *(stop for _, stop in steps)])]
    parts[0] = rollout.opened + parts[0]
    try:
        return behind(prompt, [tokens_of(part, head) for part in parts], head)
    except InputError as error:  # a completion must not escape a verdict by its length
        fits = len(prompt["input_ids"]) < head.room
        return unparsed(str(error)) if fits else failed(str(error))
