"""All answers of a group scored in one pass of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict, abstain, failed, unparsed
from rewards.heads.model_option import ModelName
from rewards.heads.reward_model import Finite, Scale, squashed


def multi_response(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    orders: Annotated[int, Field(ge=1)] = 2,
    at_once: Annotated[int, Field(ge=2)] = 8,
    center: Finite = 0.0,
    scale: Scale = 1.0,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """sigmoid((raw - center) / scale) of a YOJO model, which reads the whole group at once (2604.10966).

    `model` is a directory written by `rewards.heads.multi_response_torch.MultiResponseModel.save`. Attention is causal,
    so a score depends on the place in the row: it is the mean over `orders` rotations of the group. Groups larger than
    `at_once`, the number of responses in training, are scored in chunks that share one response as an anchor. Rotations
    and anchors are ours. Scores of different prompts have no common scale; `center` and `scale` are the mean and the
    spread of raw scores on your data. It reads text alone. An empty answer scores 0.
    """
    from rewards.heads import multi_response_torch
    from rewards.heads.checkpoint_torch import chat, plain

    scorer = multi_response_torch.loaded(model, device, dtype)
    verdicts = [abstain("no group: YOJO scores the answers to one prompt against each other")] * len(rollouts)
    groups: dict[str | int, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        if not plain(rollout.completion, scorer.tokenizer).strip():
            verdicts[i] = unparsed("empty answer")
        elif rollout.group is not None:
            groups.setdefault(rollout.group, []).append(i)
    for group, members in groups.items():
        if any(rollouts[i].prompt != rollouts[members[0]].prompt for i in members):
            found: list[float] | Verdict = failed(f"group {group!r} holds answers to different prompts")
        elif len(members) < 2:
            found = abstain(f"group {group!r} has one answer that says something")
        else:
            messages = chat(rollouts[members[0]], scorer.tokenizer)
            try:
                found = multi_response_torch.averaged_scores(
                    scorer, messages, [rollouts[i].completion for i in members], orders, at_once
                )
            except InputError as error:
                found = failed(str(error))
        for place, i in enumerate(members):
            if isinstance(found, Verdict):
                verdicts[i] = found
            else:
                verdicts[i] = Verdict(squashed(found[place], center, scale), f"raw {found[place]:.4f}")
    return verdicts
