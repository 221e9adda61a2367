"""Plain functions as rewards: those of rollouts, and those that are written for TRL."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmrl.core.config import InputError
from rewards.base import Rollout

PLAIN = "prompt_is_text"  # in the meta of a rollout: its prompt was written as a text, not as messages
OF_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
NOT_HERE = OF_TRL[2:]  # what TRL gives and a rollout does not have


def written_for_trl(function: Callable[..., Any]) -> bool:
    """Whether a function takes `completions`, as TRL calls it, and not rollouts.

    >>> written_for_trl(lambda completions, **kwargs: []), written_for_trl(lambda rollouts: [])
    (True, False)
    """
    return "completions" in inspect.signature(function).parameters


def of_rollouts(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a reward of rollouts; one that is written for TRL gets prompts, completions and columns.

    Completions are lists with one assistant message, or texts where the prompts are texts. The columns are those of the
    dataset; `answer` and `task` are among them. An `async` function is waited for.
    """
    if not written_for_trl(function):
        return function
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    needed = {each.name for each in parameters if each.name in named and each.default is each.empty}
    if lacking := sorted(needed.intersection(NOT_HERE)):
        raise InputError(f"the reward {function.__name__} needs {', '.join(lacking)}, which rollouts do not have")

    def reward(rollouts: Sequence[Rollout]) -> Any:
        columns = _columns(rollouts)
        if missing := sorted(needed - columns.keys()):
            raise ValueError(f"the data have no column {', '.join(missing)}; they have {', '.join(sorted(columns))}")
        result = function(**{name: values for name, values in columns.items() if takes_all or name in named})
        if not inspect.iscoroutine(result):
            return result
        from rewards.chat_client.event_loop import wait_for

        return wait_for(result)

    return reward


def _columns(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    """What a function that is written for TRL may take, by name."""
    metas: list[Mapping[str, Any]] = [rollout.meta for rollout in rollouts]
    names = {name for meta in metas for name in meta} - {PLAIN, *OF_TRL}
    own = {"answer": [rollout.answer for rollout in rollouts], "task": [rollout.task for rollout in rollouts]}
    columns = own | {name: [meta.get(name) for meta in metas] for name in sorted(names)}
    columns["prompts"] = [_text(rollout.prompt) if rollout.meta.get(PLAIN) else rollout.prompt for rollout in rollouts]
    columns["completions"] = [
        rollout.completion if rollout.meta.get(PLAIN) else [{"role": "assistant", "content": rollout.completion}]
        for rollout in rollouts
    ]
    return columns


def _text(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The text of a prompt that was written as one."""
    content = prompt[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
