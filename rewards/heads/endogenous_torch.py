"""Rewards that a language model's logits hold (2506.23235). Shapes: T response tokens, V tokens of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from rewards.base import Rollout, Verdict, failed, unparsed
from rewards.heads.checkpoint_torch import Checkpoint, chat, loaded, plain

Aggregate = Literal["mean", "sum", "discounted"]


def token_rewards(logits_TV: torch.Tensor, actions_T: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    """Q(s, a) - V(next s) of each token, with Q the logits, V = alpha logsumexp(Q / alpha) and 0 after the last.

    >>> logits = torch.tensor([[1.0, 2, 0], [0.5, 0.5, 1.5], [2, -1, 0]])
    >>> [round(one, 6) for one in token_rewards(logits, torch.tensor([1, 2, 0])).tolist()]
    [-0.051445, -0.669846, 2.0]
    """
    values_T = alpha * torch.logsumexp(logits_TV / alpha, dim=-1)
    after_T = torch.cat([values_T[1:], values_T.new_zeros(1)])
    return logits_TV.gather(-1, actions_T[:, None])[:, 0] - after_T


def token_logprobs(logits_TV: torch.Tensor, actions_T: torch.Tensor) -> torch.Tensor:
    """log pi of each token: the token rewards without their potential, which shapes but does not rank."""
    return logits_TV.gather(-1, actions_T[:, None])[:, 0] - torch.logsumexp(logits_TV, dim=-1)


def aggregated(values_T: torch.Tensor, how: Aggregate, gamma: float = 1.0, clip_min: float = 0.0) -> float:
    """One number from the tokens of a response; `discounted` weighs token t by max(gamma^t, clip_min) and sums."""
    if how == "mean":
        return values_T.mean().item()
    if how == "discounted":
        weights_T = torch.tensor([max(gamma**t, clip_min) for t in range(len(values_T))])
        return (values_T * weights_T.to(values_T)).sum().item()
    return values_T.sum().item()


def response_logprobs(
    rollouts: Sequence[Rollout], *, model: str, device: str, dtype: str, batch: int, blind: bool = False
) -> list[torch.Tensor | Verdict]:
    """The log-probs of the tokens of each completion after its prompt, or after an empty one if `blind`."""
    judge = loaded("language", model, device, dtype)
    rows = [_ids(one, judge, blind) for one in rollouts]
    found: list[torch.Tensor | Verdict] = [
        (failed if len(head) >= judge.room else unparsed)(  # a completion must not escape a verdict by its length
            f"{len(head) + len(response)} tokens are more than the {judge.room} that {model} takes"
        )
        for head, response in rows
    ]
    for i, (_, response) in enumerate(rows):
        if not response:
            found[i] = unparsed("empty completion")
    ready = [i for i, (head, response) in enumerate(rows) if response and len(head) + len(response) <= judge.room]
    ready.sort(key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    for start in range(0, len(ready), batch):
        taken = ready[start : start + batch]
        for i, values_T in zip(taken, _scored([rows[i] for i in taken], judge), strict=True):
            found[i] = values_T
    return found


def _ids(rollout: Rollout, judge: Checkpoint, blind: bool) -> tuple[list[int], list[int]]:
    tokenizer = judge.tokenizer
    messages = [{"role": "user", "content": ""}] if blind else chat(rollout, tokenizer)
    if tokenizer.chat_template:
        head = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=True)
        ids = list(head["input_ids"])
    else:
        ids = tokenizer("\n".join(one["content"] for one in messages))["input_ids"]
    ids = ids or [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id]
    response = plain(rollout.completion, tokenizer)
    return ids, tokenizer(response if response.strip() else "", add_special_tokens=False)["input_ids"]


def _scored(rows: Sequence[tuple[list[int], list[int]]], judge: Checkpoint) -> list[torch.Tensor]:
    """Log-probs of the second part of each row; padded on the right, where causal attention does not look."""
    whole = [torch.tensor([*head, *response]) for head, response in rows]
    ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True).to(judge.model.device)
    lengths = torch.tensor([len(one) for one in whole], device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    with torch.inference_mode():
        logits = judge.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [
            token_logprobs(
                logits[i, len(head) - 1 : len(head) + len(response) - 1].float(), ids[i, len(head) :][: len(response)]
            )
            for i, (head, response) in enumerate(rows)
        ]
