"""Reward vectors to advantages: pure functions of arrays, (rewards_PGK, weights_K, **options) -> advantages_PG.

Shapes: P prompts, G rollouts of a prompt (a group), K rewards. NaN marks an abstention. A rollout that misses a reward
gets neither a bonus nor a penalty from it, and a rollout that misses all of them gets advantage 0. A group that is
constant (a spread up to `dead_std`) gets exactly 0. Torch tensors come back as tensors.

Common options: `whiten` ("batch", "task" or "none") standardises the advantages over the batch or each task,
`tasks_P` names the task of each prompt, `eps` is added to standard deviations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmrl.advantages.arrays import Whiten, dead_groups
from mmrl.advantages.contrasted import gcpo, visurf
from mmrl.advantages.decoupled import c_gdpo, gdpo
from mmrl.advantages.statistics import statistics
from mmrl.advantages.summed import dr_grpo, grpo, rloo
from mmrl.advantages.weighed import grpo_s, tmn
from mmrl.core.config import InputError, nearest

__all__ = [
    "ADVANTAGES",
    "Whiten",
    "c_gdpo",
    "check_options",
    "dead_groups",
    "dr_grpo",
    "gcpo",
    "gdpo",
    "grpo",
    "grpo_s",
    "options_of",
    "rloo",
    "statistics",
    "tmn",
    "visurf",
]

ADVANTAGES: dict[str, Callable[..., Any]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "gdpo": gdpo,
    "c_gdpo": c_gdpo,
    "tmn": tmn,
    "grpo_s": grpo_s,
    "gcpo": gcpo,
    "visurf": visurf,
}


def options_of(name: str) -> list[str]:
    """The options of an estimator. Those that end in `_P` or `_PG` come with each batch, the others from the config."""
    if name not in ADVANTAGES:
        raise InputError(f"no advantage estimator {name!r}; {nearest(name, ADVANTAGES)}")
    return [
        option
        for option in inspect.signature(ADVANTAGES[name]).parameters
        if option not in ("rewards_PGK", "weights_K")
    ]


def check_options(name: str, options: Mapping[str, Any], *, rewards: int = 1) -> None:
    """Refuse what a config says of an estimator before there is a batch: `rewards` is how many rewards there are."""
    batch = {
        "tasks_P": ["one", "other"],
        "pairs_P": [0, 0],
        "preferred_P": [True, False],
        "injected_PG": np.zeros((2, 2), dtype=bool),
        "failed_PG": np.zeros((2, 2), dtype=bool),
        "hardness_PG": np.zeros((2, 2)),
        "gaps_PG": np.zeros((2, 2)),
    }
    known = options_of(name)
    for option in options:
        if option in batch or option not in known:
            settable = [one for one in known if one not in batch]
            raise InputError(
                f"{name} has no option {option!r} (value {options[option]!r}); {nearest(option, settable)}"
            )
    given = {key: value for key, value in batch.items() if key in known}
    ADVANTAGES[name](np.zeros((2, 2, rewards)), np.ones(rewards), **given, **options)
