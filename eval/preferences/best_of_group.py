"""A reward by a judge that sees all candidates of a group at once and names the best one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from eval.benchmarks.scoring import prompt, unread
from mmrl.core.media.files import MediaError
from mmrl.core.messages import user_text
from rewards.base import Rollout, Verdict, failed
from rewards.chat_client.faults import Fault, Unreadable
from rewards.judge_client.client import Ask, Judge, gathered
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.templates import quoted

Names = Literal["letters", "numbers"]
Reading = Literal["last", "published"]


def best_of_group(
    rollouts: Sequence[Rollout], *, judge: Judge, names: Names = "letters", reading: Reading = "last"
) -> list[Verdict]:
    """1 for the candidate of each group that the judge names best, 0 for the others.

    The order of the rollouts is that in which the judge sees them, as `[[A]]`, `[[B]]` ... or `[[1]]`, `[[2]]` ... Of
    several verdicts the last counts; `published` looks for each name in turn (Multimodal RewardBench). A reply without
    a verdict is wrong; no winner is drawn at random.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, rollout in enumerate(rollouts):
        groups[rollout.group].append(i)
    asked = gathered([_group([rollouts[i] for i in at], judge, names, reading) for at in groups.values()])
    verdicts = [failed("not asked")] * len(rollouts)
    for at, judged in zip(groups.values(), asked, strict=True):
        for i, verdict in zip(at, judged, strict=True):
            verdicts[i] = verdict
    return verdicts


def named_best(reply: str, names: Sequence[str], reading: Reading = "last") -> str:
    """The name in double brackets.

    >>> [named_best("[[B]], no: [[A]] or [[B]]", "AB", how) for how in ("last", "published")]
    ['B', 'A']
    """
    named = [name for name in re.findall(r"\[\[(\w+)\]\]", reply) if name in names]
    if not named:
        raise Unreadable(f"none of {', '.join(f'[[{name}]]' for name in names)}")
    return named[-1] if reading == "last" else next(name for name in names if name in named)


async def _group(rollouts: Sequence[Rollout], judge: Judge, names: Names, reading: Reading) -> list[Verdict]:
    called = [chr(ord("A") + i) if names == "letters" else str(i + 1) for i in range(len(rollouts))]
    used, limit = prompt("best_of_group"), judge.spec.max_chars
    completions = [quoted(rollout.completion, limit) for rollout in rollouts]
    texts = [f"Response {name}:\n{text}" for name, text in zip(called, completions, strict=True)]
    values = {
        "question": quoted(user_text(rollouts[0].prompt), limit),
        "responses": "\n\n".join(texts),
        "names": ", ".join(f"[[{name}]]" for name in called),
    }
    try:
        ask = Ask(used.name, *used.rendered(values), _pictures(rollouts, called))
        best = await judge.read(ask, lambda reply: named_best(reply, called, reading))
    except Fault as fault:
        verdict = unread(fault.detail) if fault.cause == "unreadable" else failed(f"{judge.name}: {fault}")
        return [verdict] * len(rollouts)
    except MediaError as fault:
        return [failed(f"media: {fault}")] * len(rollouts)
    return [Verdict(float(name == best), f"{used.name}: {best} is best, this is {name}") for name in called]


def _pictures(rollouts: Sequence[Rollout], called: Sequence[str]) -> tuple[Shown, ...]:
    """The media that all candidates share, then those of each candidate, such as its edited image."""
    first, *others = (rollout.all_media for rollout in rollouts)
    shared = sum(all(len(media) > i and media[i] == item for media in others) for i, item in enumerate(first))
    own = [
        Shown(item, f"Response {name}:")
        for name, rollout in zip(called, rollouts, strict=True)
        for item in rollout.all_media[shared:]
    ]
    return (*(Shown(item, f"{item.kind.capitalize()} {i}:") for i, item in enumerate(first[:shared], 1)), *own)
