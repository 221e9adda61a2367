"""Rewards that a language model's logits hold (2506.23235). Shapes: T response tokens, V tokens of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict, failed, unparsed
from rewards.heads.checkpoint_torch import Checkpoint, loaded
from rewards.heads.reading_torch import Row, padded
from rewards.heads.token_scores_torch import behind, prompt_rows, tokens_of

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
    prompts = prompt_rows([Rollout("")] * len(rollouts) if blind else rollouts, judge)
    found: list[Any] = [_row(*one, judge) for one in zip(prompts, rollouts, strict=True)]
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    ready.sort(key=lambda i: len(found[i][0]["input_ids"]))
    for start in range(0, len(ready), batch):
        taken = ready[start : start + batch]
        for i, values_T in zip(taken, _scored([found[i] for i in taken], judge), strict=True):
            found[i] = values_T
    return found


def _row(prompt: Row | Verdict, rollout: Rollout, judge: Checkpoint) -> tuple[Row, int] | Verdict:
    """A rollout behind its `prompt` as inputs of the model and the place where its completion begins, or the verdict
    where it cannot be read."""
    response = tokens_of(rollout.completion, judge)
    if not response:
        return unparsed("empty completion")
    if isinstance(prompt, Verdict):
        return prompt
    if not len(prompt["input_ids"]):
        bos, eos = judge.tokenizer.bos_token_id, judge.tokenizer.eos_token_id
        prompt = prompt | {"input_ids": torch.tensor([eos if bos is None else bos])}
    begin = len(prompt["input_ids"])
    try:
        return behind(prompt, [response], judge)[0], begin
    except InputError as error:  # a completion must not escape a verdict by its length
        return failed(str(error)) if begin >= judge.room else unparsed(str(error))


def _scored(rows: Sequence[tuple[Row, int]], judge: Checkpoint) -> list[torch.Tensor]:
    """Log-probs of each row from its place on; padded on the right, where causal attention does not look."""
    inputs = {name: value.to(judge.model.device) for name, value in padded([row for row, _ in rows], judge).items()}
    with torch.inference_mode():
        logits_BTV = judge.model(**inputs, use_cache=False).logits
        return [
            token_logprobs(logits_TV[begin - 1 : len(ids_T) - 1].float(), ids_T[begin:])
            for logits_TV, (row, begin) in zip(logits_BTV, rows, strict=True)
            for ids_T in [row["input_ids"].to(logits_TV.device)]
        ]
