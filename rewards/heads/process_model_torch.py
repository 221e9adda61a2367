"""The raw scores of a head at the ends of the steps of answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict, failed, unparsed
from rewards.heads.checkpoint_torch import Checkpoint, plain, question_of
from rewards.heads.reading_torch import Row, scores_at
from rewards.heads.token_scores_torch import behind, prompt_rows, token_scores, tokens_of

KINDS = ("process", "distilled")
Steps = Sequence[tuple[int, int]]  # the bounds of the steps in the completion


def step_scores(
    rollouts: Sequence[Rollout], steps: Sequence[Steps], *, model: str, device: str, dtype: str, batch: int
) -> list[list[float] | Verdict]:
    """The bare outputs of the head at the ends of the steps of each rollout, or the verdict where there are none."""
    head = token_scores(model, KINDS, device, dtype)
    found: list[Any] = step_rows(rollouts, steps, head)
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    if ready:
        rows, ends = zip(*(found[i] for i in ready), strict=True)
        questions = [question_of(rollouts[i]) for i in ready]
        for i, scores in zip(ready, scores_at(rows, ends, questions, head, batch), strict=True):
            found[i] = scores.tolist()
    return found


def step_rows(
    rollouts: Sequence[Rollout], steps: Sequence[Steps], head: Checkpoint
) -> list[tuple[Row, list[int]] | Verdict]:
    """Each rollout as inputs of the head and where its steps end, or the verdict where it cannot be read."""
    prompts = prompt_rows(rollouts, head)
    return [row_behind(*one, head) for one in zip(prompts, rollouts, steps, strict=True)]


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
