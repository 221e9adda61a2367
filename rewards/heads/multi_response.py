"""All answers of a group scored in one pass of one model."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from rewards.base import BRIEF, TOO_LONG, Rollout, Verdict, abstain, failed, unparsed
from rewards.heads.reward_model import Finite, ModelName, Scale, squashed


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

    `model` is what the stage `reward` of `mmrl train` makes with `head: {kind: multi_response}`. Attention is causal,
    so a score depends on the place in the row: it is the mean over `orders` rotations of the group. Groups larger than
    `at_once`, the number of responses in training, are scored in chunks that share one response as an anchor. Rotations
    and anchors are ours. Scores of different prompts have no common scale; `center` and `scale` are the mean and the
    spread of raw scores on your data. It sees the pictures if the model has a processor, a video as pictures. An empty
    answer scores 0.
    """
    from rewards.heads.checkpoint_torch import chat, pictures_by_media, plain, question_of
    from rewards.heads.multi_response_torch import averaged_scores
    from rewards.heads.token_scores_torch import asked, token_scores

    scorer = token_scores(model, ("multi_response",), device, dtype)
    verdicts = [abstain("no group: YOJO scores the answers to one prompt against each other")] * len(rollouts)
    groups: dict[str | int, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        if not plain(rollout.completion, scorer.tokenizer).strip():
            verdicts[i] = unparsed("empty answer")
        elif rollout.group is not None:
            groups.setdefault(rollout.group, []).append(i)
    for group, members in groups.items():
        if len({question_of(rollouts[i]) for i in members}) > 1:
            other = failed(f"group {group!r} holds answers to different prompts or media")
            found: Sequence[float | Verdict] = [other] * len(members)
        elif len(members) < 2:
            found = [abstain(f"group {group!r} has one answer that says something")]
        else:
            first, texts = rollouts[members[0]], [rollouts[i].answered for i in members]
            try:
                pictures = pictures_by_media(first) if scorer.processor is not None else None
                prompt = asked(scorer, chat(first, scorer.tokenizer, pictures))
                found = _scored(
                    texts, functools.partial(averaged_scores, scorer, prompt, orders=orders, at_once=at_once)
                )
            except MediaError as error:
                found = [abstain(str(error))] * len(members)
        for i, raw in zip(members, found, strict=True):
            if isinstance(raw, Verdict):
                verdicts[i] = raw
            elif raw == -math.inf:  # nothing that the tokenizer knows
                verdicts[i] = unparsed("empty answer")
            else:
                verdicts[i] = Verdict(squashed(raw, center, scale), f"raw {raw:.4f}")
    return verdicts


def _scored(texts: list[str], score: Callable[[list[str]], list[float]]) -> list[float | Verdict]:
    """The raw scores of the answers of a group; the longest scores 0 where the model cannot read all of them."""
    try:
        return [*score(texts)]
    except InputError as error:
        place = max(range(len(texts)), key=lambda i: len(texts[i]))
        if texts[place] == BRIEF:
            return [failed(str(error))] * len(texts)
    rest = [*texts[:place], *texts[place + 1 :]]
    found = _scored([*rest, BRIEF] if len(rest) < 2 else rest, score)
    failures = [one for one in found if isinstance(one, Verdict) and one.kind == "failed"]
    own = failures[0] if len(failures) == len(found) else TOO_LONG
    return [*found[:place], own, *found[place : len(rest)]]
