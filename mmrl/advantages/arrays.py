"""What all estimators share: means that skip abstentions, whitening, the rule that a constant group says nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np

from mmrl.core.config import InputError

Array = np.ndarray
Whiten = Literal["batch", "task", "none"]
WHITEN = ("batch", "task", "none")


def estimator(function: Callable[..., Array]) -> Callable[..., Any]:
    """`function` of float64 arrays, made to take torch tensors too, and then to return one of the same kind.

    Torch is not imported for it. What no reward may be (infinite, of another shape) is refused here.
    """

    @functools.wraps(function)
    def checked(rewards_PGK: Any, weights_K: Any, **options: Any) -> Any:
        rewards, weights = as_array(rewards_PGK), as_array(weights_K)
        if rewards.ndim != 3 or weights.shape != rewards.shape[2:]:
            raise ValueError(f"rewards {rewards.shape} and weights {weights.shape}; must be [P, G, K] and [K]")
        if np.isinf(rewards).any() or not np.isfinite(weights).all():
            raise ValueError(
                "a reward is infinite or a weight is not finite; an abstention is NaN, weights are numbers"
            )
        counted = np.where(weights == 0, np.nan, rewards)  # a reward of weight 0 is only looked at
        return like(rewards_PGK, function(counted, weights, **options))

    return checked


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
    """The mean of what is not NaN, `axis` kept; NaN, without a warning, of nothing."""
    count = (~np.isnan(values)).sum(axis=axis, keepdims=True)
    total = np.nansum(values, axis=axis, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def spread(values: Array, axis: int | tuple[int, ...] | None = None, *, ddof: int = 1) -> Array:
    """The standard deviation of what is not NaN, `axis` kept; NaN of fewer than two values."""
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
    """[P, G]: the weighted sum of the rewards given; NaN where none is."""
    total_PG = np.nansum(values_PGK * weights_K, axis=-1)
    return np.where(np.isnan(values_PGK).all(axis=-1), np.nan, total_PG)


def settled(
    mixed_PG: Array, *, whiten: Whiten, tasks_P: Sequence[Hashable] | None, eps: float, dead_std: float
) -> Array:
    """`mixed_PG`, whitened over the batch or each task; exactly 0 in dead groups and where nothing was scored."""
    advantages_PG = mixed_PG.copy()
    for rows in _parts(len(mixed_PG), whiten, tasks_P):
        part = mixed_PG[rows]
        scale = spread(part) + eps
        advantages_PG[rows] = (part - nanmean(part)) / np.where(scale > 0, scale, np.inf)
    return np.where(dead(mixed_PG, dead_std) | np.isnan(mixed_PG), 0.0, advantages_PG)


def rows_of(labels_P: Sequence[Hashable] | None, prompts: int, name: str, why: str) -> dict[Hashable, Array]:
    """The rows of each label, in order of appearance."""
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


def check_common(*, whiten: str = "none", eps: float, dead_std: float, ddof: int = 1) -> None:
    """Refuse options out of range, naming the value."""
    if whiten not in WHITEN:
        raise InputError(f"whiten={whiten!r}; known: {', '.join(WHITEN)}")
    if ddof not in (0, 1):
        raise InputError(f"ddof={ddof!r}; must be 1 (unbiased) or 0 (population)")
    in_range("eps", eps, low=0)
    in_range("dead_std", dead_std, low=0)


def in_range(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Refuse a number that is not finite or not in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name}={value!r}; must be a finite number")
    if not low <= value <= high:
        raise InputError(
            f"{name}={value!r}; must be {f'at least {low:g}' if high == math.inf else f'in [{low:g}, {high:g}]'}"
        )


def _parts(prompts: int, whiten: Whiten, tasks_P: Sequence[Hashable] | None) -> list[Array]:
    if whiten == "none":
        return []
    if whiten == "batch":
        return [np.arange(prompts)]
    return list(rows_of(tasks_P, prompts, "tasks_P", "whiten='task'").values())
