"""The score of a scalar reward head: a Hugging Face sequence classifier with one output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict, unparsed


def there(name: str) -> str:
    """A hub id, or the path of a directory that is there: a mistyped path must not fail rollout by rollout.

    >>> there("Qwen/Qwen3-0.6B")
    'Qwen/Qwen3-0.6B'
    """
    place = Path(name)
    if (place.is_absolute() or name.startswith(".")) and not place.is_dir():
        raise InputError(f"no checkpoint at {name}; give a directory or a hub id")
    return name


ModelName = Annotated[str, AfterValidator(there)]  # of rewards that run a model; importing this loads none

Batch = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def reward_model(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    center: Finite = 0.0,
    scale: Scale = 1.0,
    batch: Batch = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """sigmoid((raw - center) / scale) of a checkpoint for sequence classification with one output.

    The `model` reads the prompt and the completion through its chat template (as a pair of texts if it has none), with
    the pictures if it is a vision-language model; of a policy that makes pictures it reads the prompt and what was
    made. The stage `reward` of `mmrl train` makes such checkpoints. Two scores of one prompt differ by a Bradley-Terry
    preference; `center` and `scale` are the mean and the spread of raw scores on your data (`why` has the raw score).
    The wrapper `shape` with `logit` restores the raw scores (PAR, 2502.18770). Special tokens in the completion are
    blanked.

    >>> round(squashed(2.0, 1.0, 0.5), 7), squashed(-9999.0)
    (0.8807971, 0.0)
    """
    from rewards.heads.reward_model_torch import raw_scores

    rows = [i for i, rollout in enumerate(rollouts) if rollout.completion.strip() or rollout.made]
    verdicts = [unparsed("empty completion")] * len(rollouts)
    raw = raw_scores([rollouts[i] for i in rows], model=model, device=device, dtype=dtype, batch=batch) if rows else []
    for i, logit in zip(rows, raw, strict=True):
        verdicts[i] = (
            logit if isinstance(logit, Verdict) else Verdict(squashed(logit, center, scale), f"raw {logit:.4f}")
        )
    return verdicts


def squashed(raw: float, center: float = 0.0, scale: float = 1.0) -> float:
    """A raw score in [0, 1], a half at `center`; NaN stays NaN, so that it is counted as a failure."""
    value = (raw - center) / scale
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
