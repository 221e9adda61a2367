"""Injected ground truth (ViSurf): the last rollout of every group is replaced by the gold answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import Config, InputError
from mmrl.core.vision import CoordinateSpace
from mmrl.model.encoding import Encoded
from mmrl.trainers.targets import ANSWER_FORMAT, Answers, can_be_written, rendered


class Injection(Config):
    """`form` is the format of the model's answers, with {rationale} and {answer}.

    `unrewarded` names the rewards for which a gold answer gets no credit, such as those for its reasoning, which the
    policy did not produce. That needs the estimator `visurf`; with others the gold answer is one more rollout.
    """

    form: str = ANSWER_FORMAT
    unrewarded: tuple[str, ...] = ()


def gold_answer_ids(
    row: Mapping[str, Any],
    injection: Injection,
    space: CoordinateSpace,
    prompt: Encoded,
    answers: Answers,
    *,
    longest: int,
) -> list[int] | None:
    """The tokens of the gold answer in the model's own format.

    None if it is longer than `longest` tokens, and for tasks without a gold text.
    """
    if not can_be_written(row["task"]):
        return None
    ids = answers.tokens(rendered(row, space, prompt.seen_size, form=injection.form), prompt)
    return ids if len(ids) <= longest else None


def check_injection(injection: Injection, rewards: Sequence[str], estimator: str, options: Sequence[str]) -> None:
    """Refuse unknown rewards, and `unrewarded` with an estimator that cannot use it."""
    for name in injection.unrewarded:
        if name not in rewards:
            raise InputError(f"rollout.inject.unrewarded: no reward {name!r}; there are {', '.join(rewards)}")
    if "pairs_P" in options:
        raise InputError(f"rollout.inject cannot be combined with {estimator}: a preference has no gold text to inject")
    if injection.unrewarded and "thinking_K" not in options:
        raise InputError(f"rollout.inject.unrewarded: {estimator} controls no rewards; use the estimator visurf")
    try:
        injection.form.format(rationale="", answer="")
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"rollout.inject.form={injection.form!r}: {error!r}; known: {{rationale}}, {{answer}}"
        ) from None


def lengths_logged(lengths_N: Tensor, ended_N: Tensor, injected_N: Tensor) -> dict[str, float]:
    """TRL's metrics of completion lengths, over the completions that the policy has sampled itself."""
    own, ended = lengths_N[~injected_N].float(), lengths_N[~injected_N & ended_N].float()
    logged = {"clipped_ratio": float((~ended_N[~injected_N]).float().mean())}
    for name, values in (("length", own), ("terminated_length", ended if len(ended) else torch.zeros(1))):
        for kind, value in (("mean", values.mean()), ("min", values.min()), ("max", values.max())):
            logged[f"{kind}_{name}"] = float(value)
    return {f"completions/{name}": value for name, value in logged.items()}


def own_entropy(entropy_BC: Tensor, mask_BC: Tensor, injected_B: Tensor) -> Tensor:
    """`entropy_BC` with the mean of the policy's own tokens at the tokens of injected rows, which changes no mean."""
    own = mask_BC.bool() & ~injected_B.unsqueeze(1)
    if not own.any():
        return entropy_BC
    return torch.where(injected_B.unsqueeze(1), entropy_BC[own].mean(), entropy_BC)
