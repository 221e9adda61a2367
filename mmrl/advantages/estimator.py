"""The decorator of all estimators: their common checks and options, and the last step from sums to advantages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Literal

import numpy as np

from mmrl.advantages.arrays import Array, as_array, dead, in_range, like, nanmean, rows_of, spread
from mmrl.core.config import InputError

Whiten = Literal["batch", "task", "none"]
WHITEN = ("batch", "task", "none")
Property = Literal["zero_sum", "scale_free", "own_group", "neutral_abstention"]


def estimator(
    *, whiten: Whiten = "none", eps: float = 1e-4, without: Collection[Property] = ()
) -> Callable[[Callable[..., Array]], Callable[..., Any]]:
    """Make an estimator of its equation, a function (rewards_PGK, weights_K, *, own options) -> [P, G].

    The equation gets float64 arrays; an abstention is NaN, and so are all scores of a reward of weight 0. It may return
    NaN where a rollout has no score. The decorator adds the options that all estimators share, with `whiten` and `eps`
    as their defaults here: an equation that needs `eps`, `dead_std` or `tasks_P` itself names it without a default.
    Then advantages are whitened, set to 0 in dead groups and where they are NaN, and returned as the rewards came:
    torch tensors as tensors (torch is not imported for that), arrays and lists as an array.

    `without` names the properties that the equation lacks by design; the tests hold it to all others. `zero_sum`: a
    group's advantages add up to 0 before whitening. `scale_free`: scaling and shifting all rewards alike changes
    nothing. `own_group`: other groups do not matter. `neutral_abstention`: abstaining is worth the mean of the others.
    """
    defaults = {"whiten": whiten, "tasks_P": None, "eps": eps, "dead_std": 1e-6}

    def decorated(equation: Callable[..., Array]) -> Callable[..., Any]:
        own = inspect.signature(equation).parameters

        @functools.wraps(equation)
        def advantages(rewards_PGK: Any, weights_K: Any, **options: Any) -> Any:
            shared = {name: options.pop(name, default) for name, default in defaults.items()}
            _check(shared["whiten"], shared["eps"], shared["dead_std"])
            rewards, weights = _checked(rewards_PGK, weights_K)
            needed = {name: value for name, value in shared.items() if name in own}
            return like(rewards_PGK, settled(equation(rewards, weights, **needed, **options), **shared))

        first = [parameter for name, parameter in own.items() if name not in defaults]
        kind, hints = inspect.Parameter.KEYWORD_ONLY, inspect.signature(settled).parameters
        last = [
            inspect.Parameter(name, kind, default=default, annotation=hints[name].annotation)
            for name, default in defaults.items()
        ]
        advantages.without = frozenset(without)  # pyright: ignore[reportAttributeAccessIssue]
        advantages.__signature__ = inspect.Signature([*first, *last])  # pyright: ignore[reportAttributeAccessIssue]
        return advantages

    return decorated


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


def _check(whiten: str, eps: float, dead_std: float) -> None:
    if whiten not in WHITEN:
        raise InputError(f"whiten={whiten!r}; known: {', '.join(WHITEN)}")
    in_range("eps", eps, low=0)
    in_range("dead_std", dead_std, low=0)


def _checked(rewards_PGK: Any, weights_K: Any) -> tuple[Array, Array]:
    """The rewards and weights as arrays; scores of a reward of weight 0, which is only logged, become NaN."""
    rewards, weights = as_array(rewards_PGK), as_array(weights_K)
    if rewards.ndim != 3 or weights.shape != rewards.shape[2:]:
        raise ValueError(f"rewards {rewards.shape} and weights {weights.shape}; must be [P, G, K] and [K]")
    if np.isinf(rewards).any() or not np.isfinite(weights).all():
        raise ValueError("a reward is infinite or a weight is not finite; an abstention is NaN, weights are numbers")
    return np.where(weights == 0, np.nan, rewards), weights


def _parts(prompts: int, whiten: Whiten, tasks_P: Sequence[Hashable] | None) -> list[Array]:
    """The rows that are whitened together."""
    if whiten == "none":
        return []
    if whiten == "batch":
        return [np.arange(prompts)]
    return list(rows_of(tasks_P, prompts, "tasks_P", "whiten='task'").values())
