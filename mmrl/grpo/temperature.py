"""Temperatures that change along a completion or during training, for sampling and for the log-probs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from mmrl.core.config import Config, InputError
from mmrl.model.inputs import core


def annealed(
    tokens_T: NDArray[np.int64],
    step: int,
    *,
    t_max: float = 1.2,
    t_min: float = 0.1,
    d0: float = 500.0,
    growth: float = 5.0,
    d_max: float = 40000.0,
    head: int = 10,
) -> NDArray[np.float64]:
    """[T] temperatures by EAD (2510.05251): high where a completion takes its direction, lower later.

    `T_t = max(1 + t_max - exp(t / d), t_min)` with `d = min(d0 + growth * step, d_max)`, and 1 for the first `head`
    tokens. `tokens_T` counts the tokens already generated, `step` the optimizer steps. The authors' code divides by
    `20 d` in sampling and by `d` in scoring; this function is the paper's formula, used for both.

    >>> annealed(np.array([0, 100, 300, 400]), 0).round(4).tolist()
    [1.0, 0.9786, 0.3779, 0.1]
    """
    decay = min(d0 + growth * step, d_max)
    falling_T = 1 + t_max - np.exp(np.minimum(tokens_T / decay, math.log(1 + t_max)))
    return np.where(tokens_T < head, 1.0, np.maximum(falling_T, t_min))


def cosine(step: int, total_steps: int, *, start: float, end: float) -> float:
    """Half a cosine from `start` at the first step to `end` at the last.

    >>> [round(cosine(step, 101, start=1.2, end=0.8), 6) for step in (0, 50, 100)]
    [1.2, 1.0, 0.8]
    """
    share = min(step / max(total_steps - 1, 1), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class TemperatureSchedule(Config):
    """`ead`: `annealed` with its options. `cosine`: from `start` to `end` over the training. All are above 0."""

    schedule: Literal["ead", "cosine"]
    start: Annotated[float, Field(gt=0)] = 1.0
    end: Annotated[float, Field(gt=0)] = 1.0
    t_max: Annotated[float, Field(gt=0)] = 1.2
    t_min: Annotated[float, Field(gt=0)] = 0.1
    d0: Annotated[float, Field(gt=0)] = 500.0
    growth: Annotated[float, Field(ge=0)] = 5.0
    d_max: Annotated[float, Field(gt=0)] = 40000.0
    head: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="after")
    def _own_options(self) -> TemperatureSchedule:
        others = {"start", "end"} if self.schedule == "ead" else {"t_max", "t_min", "d0", "growth", "d_max", "head"}
        if wrong := self.unusual(sorted(others)):
            raise ValueError(f"the schedule {self.schedule!r} does not use {', '.join(wrong)}")
        return self

    def temperatures(self, tokens: int, step: int, total_steps: int) -> list[float]:
        """The temperature of each of the first `tokens` tokens of completions sampled at `step`."""
        if self.schedule == "cosine":
            return [cosine(step, total_steps, start=self.start, end=self.end)] * tokens
        options = self.model_dump(include={"t_max", "t_min", "d0", "growth", "d_max", "head"})
        return annealed(np.arange(tokens), step, **options).tolist()


@contextmanager
def tempered(model: Any, temperature_RT: Tensor) -> Iterator[None]:
    """A context in which the logits that predict the token after position t of row r are divided by
    `temperature_RT[r, t]`.

    TRL fixes its scoring temperature when the trainer is built, and its fused head never shows the logits. A head
    without bias is linear: its input, the hidden state, is divided instead.
    """

    def divide(_: Any, __: Any, output: Any) -> Any:
        hidden_RTH = output.last_hidden_state
        output.last_hidden_state = hidden_RTH / temperature_RT.unsqueeze(-1).to(hidden_RTH)
        return output

    hook = core(model).register_forward_hook(divide)
    try:
        yield
    finally:
        hook.remove()


def check_head(model: Any) -> None:
    """Refuse a head for which dividing the hidden state is not the same as dividing the logits."""
    head = model.get_output_embeddings()
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if getattr(head, "bias", None) is not None or capped:
        why = "caps its logits" if capped else "has a head with a bias"
        raise InputError(f"a temperature schedule cannot be scored with {type(model).__name__}: it {why}")


def before_completion(temperature_BC: Tensor, length: int) -> Tensor:
    """[B, length] divisors for rows that end in a completion of C tokens.

    The temperature of each token stands at the position before it, where the token is predicted; 1 elsewhere.
    """
    rows, keep = temperature_BC.shape
    ahead = torch.ones(rows, length - keep - 1).to(temperature_BC)
    return torch.cat([ahead, temperature_BC, torch.ones(rows, 1).to(temperature_BC)], dim=1)
