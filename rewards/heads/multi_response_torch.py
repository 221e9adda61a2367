"""YOJO: all responses to a prompt scored in one pass (2604.10966). Shapes: B rows, R responses, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.reading_torch import Row, scores_at
from rewards.heads.token_scores_torch import behind, tokens_of

SEPARATOR = "<|resp_sep|>"


def best_of_loss(scores_BR: Tensor, best_B: Tensor) -> Tensor:
    """Cross-entropy of the index of the best response; with two responses, Bradley-Terry. -inf marks missing ones.

    A row without a single response, or whose best response is missing, says nothing and is left out.

    >>> round(best_of_loss(torch.tensor([[2.0, 1.0, -torch.inf]]), torch.tensor([0])).item(), 7)
    0.3132617
    """
    kept_B = scores_BR.gather(1, best_B[:, None])[:, 0].isfinite()
    if not kept_B.any():
        return scores_BR.new_zeros(())
    return functional.cross_entropy(scores_BR[kept_B], best_B[kept_B])


def add_separator(model: Any, tokenizer: Any) -> None:
    """Give the tokenizer the separator of responses, and the model an embedding for it."""
    if SEPARATOR not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [SEPARATOR]}, replace_extra_special_tokens=False)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))


def followed(prompt: Row, responses: Sequence[str], head: Checkpoint) -> tuple[Row, list[int | None]]:
    """The prompt with all responses behind it, joined by the separator, and the last token of each; None for an empty
    one."""
    separator = head.tokenizer.convert_tokens_to_ids(SEPARATOR)
    said = [tokens_of(response.strip(), head) for response in responses]
    row, ends = behind(prompt, [[separator, *ids] if number else ids for number, ids in enumerate(said)], head)
    return row, [end if ids else None for end, ids in zip(ends, said, strict=True)]


def scored_together(head: Checkpoint, prompt: Row, responses: Sequence[str]) -> Tensor:
    """The scores [R] of responses to one prompt, from one pass; -inf for an empty one."""
    [scores_R] = _scored(head, prompt, [responses])
    return scores_R


def averaged_scores(head: Checkpoint, prompt: Row, responses: Sequence[str], orders: int, at_once: int) -> list[float]:
    """The scores of responses, each the mean over `orders` rotations, as later ones see earlier ones.

    More than `at_once` go in chunks that share the first response, whose scores put the chunks on one scale.
    """
    size = len(responses)
    if size <= at_once:
        return _rotated(head, prompt, responses, orders)
    step = at_once - 1
    chunks = [[0, *range(i, min(i + step, size))] for i in range(1, size, step)]
    scores = [_rotated(head, prompt, [responses[i] for i in chunk], orders) for chunk in chunks]
    anchor = sum(one[0] for one in scores) / len(scores)
    found = [anchor] * size
    for chunk, one in zip(chunks, scores, strict=True):
        for i, score in zip(chunk[1:], one[1:], strict=True):
            found[i] = score - one[0] + anchor
    return found


def _rotated(head: Checkpoint, prompt: Row, responses: Sequence[str], orders: int) -> list[float]:
    size = len(responses)
    turns = sorted({number * size // orders for number in range(orders)})
    rotations = [[(i + turn) % size for i in range(size)] for turn in turns]
    totals = torch.zeros(size, dtype=torch.float64)
    found = _scored(head, prompt, [[responses[i] for i in order] for order in rotations])
    for order, scores_R in zip(rotations, found, strict=True):
        totals[order] += scores_R.double().cpu()
    return (totals / len(turns)).tolist()


def _scored(head: Checkpoint, prompt: Row, several: Sequence[Sequence[str]]) -> list[Tensor]:
    """The scores [R] of several lists of responses to one prompt, each list in a row."""
    rows, ends = zip(*(followed(prompt, responses, head) for responses in several), strict=True)
    known = [[end for end in own if end is not None] for own in ends]
    found = scores_at(rows, known, [None] * len(rows), head, batch=len(rows))
    scores = []
    for own, scores_N in zip(ends, found, strict=True):
        said_R = torch.tensor([end is not None for end in own], device=scores_N.device)
        scores.append(scores_N.new_full(said_R.shape, -torch.inf).masked_scatter(said_R, scores_N))
    return scores
