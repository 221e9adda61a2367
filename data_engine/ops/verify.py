"""Can the answer be checked? The gold must score 1 under the reward of its task, and trivial answers must not."""

from __future__ import annotations

import functools
import heapq
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from data_engine.operator import Dropped, Quarantined, Spool, Task, each, quarantine, stream
from data_engine.schema import Sample
from data_engine.seeding import digest
from mmrl.core.canonical_json import dumps
from rewards.base import Reward, Rollout, Verdict
from rewards.registry import Call, get
from rewards.tasks.table import TASKS

ROUNDING = 1e-6  # how far from 1 arithmetic may carry the score of the gold
POOL = 64  # golds of a task that are kept to try on others


def _buildable(rewards: dict[str, Call]) -> dict[str, Call]:
    for call in rewards.values():
        _built(call.fn, dumps(call.args))
    return rewards


Rewards = Annotated[dict[Task, Call], AfterValidator(_buildable)]


@each
def verifiable(
    sample: Sample, *, rewards: Rewards | None = None, trivial: Sequence[str] = ("", "0")
) -> Sample | Dropped | Quarantined:
    """Keep samples whose gold scores 1 under the reward of its task, and for which no trivial answer does.

    A gold that does not score 1 is quarantined: `gold_unread` if the reward cannot read it, else `gold_scores_low`. A
    sample is dropped (`trivial_answer`) if one of the `trivial` answers scores 1; "0" is not tried on choices, whose
    options may read so. `rewards` (task -> `{fn, args}`) replaces the rules of `rewards.tasks.table`; a task without a
    reward is kept.
    """
    reward, kind, golds = _reward_of(sample.task, rewards), TASKS[sample.task], _golds(sample)
    if reward is None or not golds:
        return sample
    for gold, verdict in zip(golds, _scored(reward, sample, golds), strict=True):
        if verdict.score is None or verdict.kind == "unparsed":
            return quarantine(sample, "gold_unread", f"the reward cannot read the gold {gold!r:.200}: {verdict.why}")
        if verdict.score < 1 - ROUNDING:
            why = f"the gold {gold!r:.200} scores {verdict.score:g} against itself, not 1: {verdict.why}"
            return quarantine(sample, "gold_scores_low", why)
    tried = [answer for answer in trivial if answer != "0" or not kind.choices]
    if any(_is_right(verdict) for verdict in _scored(reward, sample, tried)):
        return Dropped(sample, "trivial_answer")
    return sample


@stream
def other_golds(
    samples: Iterator[Sample],
    *,
    rewards: Rewards | None = None,
    tries: PositiveInt = 8,
    share: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    seed: int = 0,
) -> Iterator[Sample | Dropped]:
    """Drop samples for which more than the share `share` of up to `tries` golds of other samples score 1.

    A tolerance lets a neighbouring number score; this finds golds that accept anything. `rewards` (task -> `{fn,
    args}`) replaces the rules of the tasks. Choices, yes/no questions and tasks without a reward are kept.
    """
    spool, pools = Spool(), defaultdict[str, dict[str, str]](dict)
    for sample in samples:
        spool.add(sample)
        if not TASKS[sample.task].choices:
            pool = pools[sample.task]
            pool.update({digest("golds", seed, text): text for text in _golds(sample)[:1]})
            if len(pool) > 2 * POOL:
                pools[sample.task] = _lowest(pool, POOL)
    for sample in spool:
        reward = _reward_of(sample.task, rewards)
        others = _others(sample, pools[sample.task], tries, seed) if reward and pools[sample.task] else []
        right = sum(map(_is_right, _scored(reward, sample, others))) if reward and others else 0
        yield Dropped(sample, "accepts_other_golds") if right > share * len(others) else sample


def _others(sample: Sample, pool: Mapping[str, str], tries: int, seed: int) -> list[str]:
    """Golds of the pool that differ from the sample's own, chosen at random for it."""
    own = next(iter(_golds(sample)), "").casefold()
    drawn = sorted(_lowest(pool, POOL).values(), key=lambda text: digest("try", seed, sample.id, text))
    return [text for text in drawn if text.casefold() != own][:tries]


def _lowest(pool: Mapping[str, str], n: int) -> dict[str, str]:
    return {key: pool[key] for key in heapq.nsmallest(n, pool)}


def _scored(reward: Reward, sample: Sample, answers: Sequence[str]) -> list[Verdict]:
    """The verdicts on answers, with coordinates in pixels of the original."""
    completions = [_completion(sample.task, answer) for answer in answers]
    shared = {"answer": sample.answer, "task": sample.task, "prompt": sample.prompt, "media": sample.media}
    sizes = [(media.width or 0, media.height or 0) for media in sample.media]
    meta = {**sample.meta, "space": "pixel"}
    return reward([Rollout(completion, **shared, seen_size=sizes, meta=meta) for completion in completions])


def _completion(task: str, answer: str) -> str:
    return f"<answer>{TASKS[task].inline.format(answer)}</answer>" if answer else ""


def _is_right(verdict: Verdict) -> bool:
    return verdict.score is not None and verdict.score >= 1 - ROUNDING


def _golds(sample: Sample) -> list[str]:
    """Every text that is right, with coordinates in pixels; none for tasks without such a text."""
    golds = TASKS[sample.task].golds
    return golds(sample.answer, lambda rows: rows) if golds else []


def _reward_of(task: str, rewards: Rewards | None) -> Reward | None:
    if rewards and task in rewards:
        return _built(rewards[task].fn, dumps(rewards[task].args))
    rule = TASKS[task].rule
    return _built(rule, "{}") if rule else None


@functools.lru_cache(maxsize=64)
def _built(name: str, args: str) -> Reward:
    """The reward of a name and its options as JSON; cached, because checking its signature takes a while."""
    return get(name, **json.loads(args))
