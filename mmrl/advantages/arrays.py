"""Arithmetic that estimators share: means and spreads that skip abstentions (NaN), and groups that say nothing.

Shapes: P prompts, G rollouts of a prompt, K rewards; a 1 in their place is a kept axis.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mmrl.core.config import InputError

Array = np.ndarray


def as_array(values: Any, dtype: type = float) -> Array:
    """A numpy array of a torch tensor, an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=dtype)


def like(given: Any, result: Array) -> Any:
    """`result` as a tensor where `given` is one; booleans stay booleans."""
    if not hasattr(given, "new_tensor"):
        return result
    made = given.new_tensor(result)
    return made.bool() if result.dtype == bool else made


def nanmean(values: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """The mean of the values that are not NaN, `axis` kept; NaN, without a warning, where there is none."""
    count = (~np.isnan(values)).sum(axis=axis, keepdims=True)
    total = np.nansum(values, axis=axis, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def spread(values: Array, axis: int | tuple[int, ...] | None = None, *, ddof: int = 1) -> Array:
    """The standard deviation of the values that are not NaN, `axis` kept; NaN where there are fewer than two."""
    count = (~np.isnan(values)).sum(axis=axis, keepdims=True)
    squares = np.nansum(np.square(values - nanmean(values, axis)), axis=axis, keepdims=True)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - ddof, 1)), np.nan)


def dead(values: Array, dead_std: float, axis: int = 1) -> Array:
    """Where values say nothing about a group: constant, or fewer than two of them. `axis` is kept."""
    return ~(spread(values, axis) > dead_std)


def dead_groups(rewards_PGK: Any, *, dead_std: float = 1e-6) -> Any:
    """[P, K]: True where a reward says nothing about a group: constant, or given for fewer than two rollouts."""
    return like(rewards_PGK, dead(as_array(rewards_PGK), dead_std)[:, 0])


def centred(values: Array, dead_std: float) -> Array:
    """`values` less their group's mean (axis 1): exactly 0 in a dead group, NaN where they abstain.

    Float noise divided by a tiny spread is not a signal.
    """
    less = np.where(dead(values, dead_std), 0.0, values - nanmean(values, axis=1))
    return np.where(np.isnan(values), np.nan, less)


def mixed(values_PGK: Array, weights_K: Array) -> Array:
    """[P, G]: the weighted sum over the rewards that a rollout has; NaN where it has none."""
    total_PG = np.nansum(values_PGK * weights_K, axis=-1)
    return np.where(np.isnan(values_PGK).all(axis=-1), np.nan, total_PG)


def summed(rewards_PGK: Array, weights_K: Array, dead_std: float) -> Array:
    """[P, G]: the weighted sum of rewards less each reward's mean in the group, so that an abstention adds nothing."""
    return mixed(centred(rewards_PGK, dead_std), weights_K)


def standardised(total_PG: Array, *, eps: float, dead_std: float, ddof: int = 1) -> Array:
    """Totals less their group's mean, divided by their spread; 0 in a dead group, NaN where nothing was scored."""
    if ddof not in (0, 1):
        raise InputError(f"ddof={ddof!r}; must be 1 (unbiased) or 0 (population)")
    std_P1 = spread(total_PG, axis=1, ddof=ddof)
    alive_P1 = std_P1 > dead_std
    z_PG = (total_PG - nanmean(total_PG, axis=1)) / (np.where(alive_P1, std_P1, 1.0) + eps)
    return np.where(alive_P1 | np.isnan(total_PG), z_PG, 0.0)


def rows_of(labels_P: Sequence[Hashable] | None, prompts: int, name: str, why: str) -> dict[Hashable, Array]:
    """The rows of each label, in order of appearance; `why` is what needs the labels, for the message."""
    if labels_P is None:
        raise InputError(f"{why} needs {name}, one for each prompt")
    if len(labels_P) != prompts:
        raise ValueError(f"{len(labels_P)} {name} for {prompts} prompts; there must be one for each")
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels_P):
        rows.setdefault(label, []).append(row)
    return {label: np.array(places) for label, places in rows.items()}


def flags(values: Any, shape: tuple[int, ...], name: str, *, default: bool = False) -> Array:
    """A boolean mask of `shape`, all `default` where none is given."""
    if values is None:
        return np.full(shape, default)
    mask = as_array(values, bool)
    if mask.shape != shape:
        raise ValueError(f"{name} has the shape {mask.shape}; must be {shape}")
    return mask


def in_range(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Refuse a number that is not finite or not in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name}={value!r}; must be a finite number")
    if not low <= value <= high:
        wanted = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise InputError(f"{name}={value!r}; must be {wanted}")
