"""Reward vectors to advantages: pure functions of arrays, (rewards_PGK, weights_K, **options) -> advantages_PG.

Shapes: P prompts, G rollouts of a prompt (a group), K rewards. NaN marks an abstention. A rollout that misses a reward
gets neither a bonus nor a penalty from it, and a rollout that misses all of them gets advantage 0. A group that is
constant (a spread up to `dead_std`) gets exactly 0. Torch tensors come back as tensors.

Options that all estimators have: `whiten` ("batch", "task" or "none") standardises the advantages over the batch or
over each task, `tasks_P` names the task of each prompt, `eps` is added to standard deviations.

The name of an option says where it comes from: those that end in `_P` (a value for each prompt) or `_PG` (for each
rollout) come with each batch and are None where there is nothing to tell, all others come from the config.

To add an estimator: a file named after it with its equation under the decorator `@estimator` and a docstring that gives
the equation and its source, an entry in `ADVANTAGES`, and a test on numbers that one can check by hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmrl.advantages.arrays import dead_groups
from mmrl.advantages.flow_grpo import flow_grpo
from mmrl.advantages.gcpo import gcpo
from mmrl.advantages.gdpo import c_gdpo, gdpo
from mmrl.advantages.grpo import dr_grpo, grpo
from mmrl.advantages.grpo_s import grpo_s
from mmrl.advantages.rloo import rloo
from mmrl.advantages.statistics import statistics
from mmrl.advantages.tmn import tmn
from mmrl.advantages.visurf import visurf
from mmrl.core.config import InputError, nearest

__all__ = ["ADVANTAGES", "batch_data_of", "check_options", "dead_groups", "options_of", "statistics"]

ADVANTAGES: dict[str, Callable[..., Any]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "flow_grpo": flow_grpo,
    "gdpo": gdpo,
    "c_gdpo": c_gdpo,
    "tmn": tmn,
    "grpo_s": grpo_s,
    "gcpo": gcpo,
    "visurf": visurf,
}


def options_of(name: str) -> list[str]:
    """All options of an estimator, those that come with each batch and those from the config."""
    if name not in ADVANTAGES:
        raise InputError(f"no advantage estimator {name!r}; {nearest(name, ADVANTAGES)}")
    return list(inspect.signature(ADVANTAGES[name]).parameters)[2:]


def batch_data_of(name: str) -> list[str]:
    """The options of an estimator that come with each batch."""
    return [option for option in options_of(name) if option.endswith(("_P", "_PG"))]


def check_options(name: str, options: Mapping[str, Any], *, rewards: int = 1) -> None:
    """Refuse wrong options in a config before there is a batch, by a trial with zeros for `rewards` rewards.

    The trial's batch data say nothing: None for each prompt (`_P`), zeros (`_PG`).
    """
    batch = {option: np.zeros((2, 2)) if option.endswith("_PG") else [None, None] for option in batch_data_of(name)}
    settable = [option for option in options_of(name) if option not in batch]
    for option, value in options.items():
        if option not in settable:
            raise InputError(f"{name} has no option {option!r} (value {value!r}); {nearest(option, settable)}")
    ADVANTAGES[name](np.zeros((2, 2, rewards)), np.ones(rewards), **batch, **options)
