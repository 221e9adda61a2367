"""A language model's own logits as a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.base import Rollout, Verdict, unparsed
from rewards.heads.reward_model import Batch, ModelName, Scale, squashed


def endogenous(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    aggregate: Literal["mean", "sum", "discounted"] = "mean",
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0,
    clip_min: Annotated[float, Field(ge=0, le=1)] = 0.0,
    blind: bool = False,
    scale: Scale = 1.0,
    batch: Batch = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """How likely a language model finds the completion after its prompt: exp(x / scale) (2506.23235).

    Logits are a soft Q, so sum_h Q(s_h, a_h) - V(s_h+1) = log pi(completion | prompt) + V(s_1), and V(s_1) is the same
    for all completions of a prompt: among them the log-probability ranks alone. x is its `aggregate`: the `mean` over
    tokens, the `sum` (prefers short ones), or a `discounted` sum with weights max(`gamma`^t, `clip_min`). With `blind`
    the x after an empty prompt is subtracted, which fluent words off the point do not earn, and the score is sigmoid(x
    / `scale`) (that part is ours). The `model` is frozen; it may be the checkpoint from which the policy starts. It
    sees the pictures if it has a processor, a video as pictures. The token that ends the turn is not scored.
    """
    from rewards.heads.endogenous_torch import aggregated, response_logprobs

    verdicts = [unparsed("empty completion")] * len(rollouts)
    rows = [i for i, rollout in enumerate(rollouts) if rollout.completion.strip()]
    if not rows:
        return verdicts
    mine = [rollouts[i] for i in rows]
    found = response_logprobs(mine, model=model, device=device, dtype=dtype, batch=batch)
    alone = (
        response_logprobs(mine, model=model, device=device, dtype=dtype, batch=batch, blind=True) if blind else found
    )
    for i, seen_T, unseen_T in zip(rows, found, alone, strict=True):
        if isinstance(seen_T, Verdict):
            verdicts[i] = seen_T
            continue
        if isinstance(unseen_T, Verdict):
            verdicts[i] = unseen_T
            continue
        values_T = seen_T - unseen_T if blind else seen_T
        value = aggregated(values_T, aggregate, gamma, clip_min)
        score = squashed(value, scale=scale) if blind else math.exp(value / scale)
        verdicts[i] = Verdict(score, f"log-prob {seen_T.sum().item():.3f}, {seen_T.mean().item():.3f} a token")
    return verdicts
