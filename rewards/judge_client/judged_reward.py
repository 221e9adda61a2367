"""Rewards that ask a judge: an async function of one rollout becomes a reward over a batch, all asked at once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmrl.core.media.files import MediaError
from rewards.base import BRIEF, TOO_LONG, Rollout, Scored, Verdict, as_verdict, failed
from rewards.chat_client.event_loop import gathered
from rewards.chat_client.faults import Fault
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.replies import verdict, yes_and_no
from rewards.judge_client.templates import Template, quoted, verdict_key

logger = logging.getLogger(__name__)

FIRST_TOKEN = {"logprobs": True, "top_logprobs": 20, "max_tokens": 1}  # the most that OpenAI's API gives


def judged(function: Callable[..., Awaitable[Scored]]) -> Callable[..., list[Verdict]]:
    """A reward over a batch from an async function of one rollout; a fault or exception fails that rollout alone.

    A completion that the judge cannot read for its length, while it reads a brief one, scores 0.
    """

    @functools.wraps(function)
    def reward(rollouts: Sequence[Rollout], **options: Any) -> list[Verdict]:
        return gathered(_guarded(function, rollout, options) for rollout in rollouts)

    return reward


async def verdict_of(
    judge: Judge,
    template: Template,
    *,
    data: Mapping[str, str],
    plain: Mapping[str, str] | None = None,
    shown: tuple[Shown, ...] = (),
    parse: Callable[[dict[str, Any]], Any],
    params: Mapping[str, Any] | None = None,
) -> Any:
    """The value that `parse` reads in the JSON verdict of `judge`; `data` are texts of others, inserted as quotations.
    `params` go over those of the judge."""
    key = verdict_key(template.name, *data.values(), *(plain or {}).values())
    values = {name: quoted(text, judge.spec.max_chars) for name, text in data.items()}
    system, user = template.rendered({**values, **(plain or {}), "key": key})
    ask = Ask(template.name, system, user, shown, params or {})
    return await judge.read(ask, lambda reply: parse(verdict(reply, key)))


async def odds_of(
    judge: Judge, template: Template, *, data: Mapping[str, str], shown: tuple[Shown, ...] = ()
) -> tuple[float, float]:
    """The log-probabilities that the first token of the reply says yes and no; `data` are put in quoted.

    Nothing else of the reply is read, so a completion cannot dictate a verdict that the judge copies.
    """
    system, user = template.rendered({name: quoted(text, judge.spec.max_chars) for name, text in data.items()})
    return await judge.read(Ask(template.name, system, user, shown, FIRST_TOKEN), yes_and_no)


async def _guarded(function: Callable[..., Awaitable[Scored]], rollout: Rollout, options: Mapping[str, Any]) -> Verdict:
    try:
        return as_verdict(await function(rollout, **options))
    except Fault as fault:
        if fault.too_long and rollout.completion != BRIEF:
            brief = await _guarded(function, replace(rollout, completion=BRIEF), options)
            if brief.kind != "failed":  # the completion is at fault, and must not escape a verdict by that
                return TOO_LONG
        return failed(f"{options['judge'].name}: {fault}")
    except MediaError as fault:
        return failed(f"media: {fault}")
    except Exception as error:  # one rollout's failure; the run counts it and continues
        logger.debug("%s raised on %r", function.__name__, rollout.completion[:200], exc_info=True)
        return failed(f"{type(error).__name__}: {error}")
