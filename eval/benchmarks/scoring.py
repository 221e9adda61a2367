"""Shared parts of scorers: rules by task, and judges that are asked by a published protocol."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards import Reward, Rollout, Verdict
from rewards.base import Scored, abstain, gold, unparsed
from rewards.chat_client.faults import Fault
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.judged_reward import judged
from rewards.judge_client.templates import Template, quoted, template
from rewards.parse.extract import answer_text

PROMPTS = Path(__file__).parent.parent / "prompts"
NO_ANSWER = "no answer to judge"
UNREAD = "the judge's reply is not of the form: "  # begins `why` if the judge is at fault, not the answer
PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def by_task(rollouts: Sequence[Rollout], rules: Mapping[str, Reward], otherwise: Reward) -> list[Verdict]:
    """The verdict of the rule for each rollout's task."""
    return [rules.get(rollout.task, otherwise)([rollout])[0] for rollout in rollouts]


def prompt(name: str) -> Template:
    """A template in `eval/prompts`. The templates give the published protocols in our words."""
    return template(str(PROMPTS / f"{name}.txt"))


def text_and_golds(rollout: Rollout) -> tuple[str, list[str]] | Verdict:
    """The answer and the gold texts, any of which is right; the verdict of a rollout that lacks one of the two."""
    golds = gold(rollout, "text")
    golds = [golds] if isinstance(golds, str) else golds
    if not isinstance(golds, Sequence) or not golds:
        return abstain(f"gold text {golds!r:.80} is not a text or a list of texts")
    text = answer_text(rollout.answered)
    return (text, [str(right) for right in golds]) if text else unparsed("empty answer")


def unread(why: str) -> Verdict:
    """The verdict for an unreadable reply of a judge: 0, as in published protocols."""
    return Verdict(0.0, f"{UNREAD}{why}", "unparsed")


def by_protocol(function: Callable[..., Awaitable[Scored]]) -> Callable[..., list[Verdict]]:
    """A reward that asks a judge (see `judged`). An unreadable reply scores 0 with a reason that begins with UNREAD; a
    judge without a reply gives no verdict."""

    @functools.wraps(function)
    async def scored(rollout: Rollout, **options: Any) -> Scored:
        try:
            return await function(rollout, **options)
        except Fault as fault:
            if fault.cause != "unreadable":
                raise
            return unread(fault.detail)

    return judged(scored)


async def reply_of(
    judge: Judge,
    used: Template,
    parse: Callable[[str], Any],
    *,
    data: dict[str, str],
    plain: dict[str, str] | None = None,
    shown: tuple[Shown, ...] = (),
) -> Any:
    """The result of `parse` on the whole reply. `data` are texts of others, which are quoted in the prompt."""
    values = {name: quoted(text, judge.spec.max_chars) for name, text in data.items()}
    return await judge.read(Ask(used.name, *used.rendered({**values, **(plain or {})}), shown), parse)
