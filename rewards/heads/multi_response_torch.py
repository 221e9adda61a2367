"""YOJO: all responses to a prompt scored in one pass (2604.10966). Shapes: B rows, R responses, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.reward_model_torch import Row, padded
from rewards.heads.token_scores_torch import asked, behind, tokens_of

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


def response_scores(logits_T: Tensor, ends: Sequence[int | None]) -> Tensor:
    """[R]: the scores of responses, of the scores at all tokens of their row; -inf for an empty one."""
    places_R = torch.tensor([0 if end is None else end for end in ends], device=logits_T.device)
    empty_R = torch.tensor([end is None for end in ends], device=logits_T.device)
    return logits_T[places_R].masked_fill(empty_R, -torch.inf)


@torch.inference_mode()
def scored_together(head: Checkpoint, messages: Sequence[dict[str, Any]], responses: Sequence[str]) -> Tensor:
    """The scores [R] of responses to one prompt, from one pass."""
    row, ends = followed(asked(head, messages), responses, head)
    inputs = {name: value.to(head.model.device) for name, value in padded([row], head).items()}
    return response_scores(head.model(**inputs).logits[0], ends)


def averaged_scores(
    head: Checkpoint, messages: Sequence[dict[str, Any]], responses: Sequence[str], orders: int, at_once: int
) -> list[float]:
    """The scores of responses, each the mean over `orders` rotations, as later ones see earlier ones.

    More than `at_once` go in chunks that share the first response, whose scores put the chunks on one scale.
    """
    size = len(responses)
    if size <= at_once:
        return _rotated(head, messages, responses, orders)
    step = at_once - 1
    chunks = [[0, *range(i, min(i + step, size))] for i in range(1, size, step)]
    scores = [_rotated(head, messages, [responses[i] for i in chunk], orders) for chunk in chunks]
    anchor = sum(one[0] for one in scores) / len(scores)
    found = [anchor] * size
    for chunk, one in zip(chunks, scores, strict=True):
        for i, score in zip(chunk[1:], one[1:], strict=True):
            found[i] = score - one[0] + anchor
    return found


def _rotated(
    head: Checkpoint, messages: Sequence[dict[str, Any]], responses: Sequence[str], orders: int
) -> list[float]:
    size = len(responses)
    turns = sorted({number * size // orders for number in range(orders)})
    totals = torch.zeros(size, dtype=torch.float64)
    for turn in turns:
        order = [(i + turn) % size for i in range(size)]
        totals[order] += scored_together(head, messages, [responses[i] for i in order]).double().cpu()
    return (totals / len(turns)).tolist()
