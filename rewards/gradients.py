"""Rewards with a gradient: their form on tensors of pixels, for searches and losses that follow it.

DIFFERENTIABLE is the flag of the registry: a reward that is not in it scores pictures and says no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmrl.core.config import InputError
from mmrl.core.registry import checked_options, resolve
from rewards.base import Rollout
from rewards.registry import function_of

if TYPE_CHECKING:
    from rewards.suite import RewardSpec

DIFFERENTIABLE = {  # (pixels [N, 3, H, W] in [0, 1], rollout, **options of the reward) -> scores [N]
    "edit_match": "rewards.heads.gradients_torch:edit_match",
    "embedding_similarity": "rewards.heads.gradients_torch:embedding_similarity",
    "transport": "rewards.heads.gradients_torch:transport",
    "condition_match": "rewards.heads.gradients_torch:condition_match",
}


def check_gradients(specs: Mapping[str, RewardSpec], *, where: str, follower: str, others: str) -> None:
    """InputError for a reward without a gradient; `others` take the place of the `follower` of gradients."""
    for name, spec in specs.items():
        if spec.fn not in DIFFERENTIABLE:
            raise InputError(
                f"{where}.{name}: {spec.fn} has no gradient for {follower} to follow, which "
                f"{', '.join(DIFFERENTIABLE)} have; choose {others}"
            )


def gradient_of(specs: Mapping[str, RewardSpec]) -> Callable[[Any, Rollout], Any]:
    """The weighted sum of rewards as a function of pixels and of what was asked, [N] with a gradient."""
    parts = [
        (
            spec.weight,
            resolve(spec.fn, DIFFERENTIABLE, "gradient"),
            checked_options(function_of(spec.fn), spec.args, f"reward {spec.fn}"),
        )
        for spec in specs.values()
    ]
    return lambda pixels, rollout: sum(weight * score(pixels, rollout, **options) for weight, score, options in parts)
