"""Rewards by written criteria: a principle that ranks a group, the rules of a rubric, the facts of an answer."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmrl.core.media.files import MediaError
from mmrl.core.messages import user_text
from rewards.base import BRIEF, TOO_LONG, Rollout, Verdict, abstain, failed, unparsed
from rewards.chat_client.event_loop import gathered
from rewards.chat_client.faults import Fault, Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judge_client.judged_reward import judged, verdict_of
from rewards.judge_client.templates import template
from rewards.parse import extract

LABELS = {"support": 1.0, "partial_support": 0.5, "not_support": 0.0}
TOP = 5  # of the scores by a principle

NO_RESPONSE = unparsed("no response to judge")


def principle_ranking(
    rollouts: Sequence[Rollout], *, judge: Judge, principle: str, most: Annotated[int, Field(ge=1, le=26)] = 16
) -> list[Verdict]:
    """The score that a judge gives each response of a group by one `principle`, 1 to 5 as 0 to 1 (RewardAnything).

    All responses of a `group` to one prompt are scored in one call (2506.03637): under neutral names, in an order by
    their hash, equal ones once. A group of more than `most` different responses is asked about in parts. The reply must
    score every name and rank them in the order of the scores; otherwise no response of the part has a verdict, because
    a judge that leaves one out must not raise any other.
    """
    texts = [extract.answer_text(rollout.answered) or "" for rollout in rollouts]
    groups: dict[Any, dict[str, Rollout]] = {}
    keys = [(rollout.group, user_text(rollout.prompt), *rollout.media) for rollout in rollouts]
    for key, text, rollout in zip(keys, texts, rollouts, strict=True):
        if text:
            groups.setdefault(key, {}).setdefault(text, rollout)
    parts = [(key, part) for key, texts in groups.items() for part in _parts(sorted(texts, key=_digest), most)]
    asked = [_ranked(judge, principle, groups[key][part[0]], part) for key, part in parts]
    found: dict[Any, Verdict] = {}
    for (key, part), verdicts in zip(parts, gathered(asked), strict=True):
        found |= {(key, text): verdict for text, verdict in zip(part, verdicts, strict=True)}
    return [found.get((key, text), NO_RESPONSE) for key, text in zip(keys, texts, strict=True)]


@judged
async def rubric(rollout: Rollout, *, judge: Judge, strict: bool = True, show: bool = True) -> Verdict:
    """The share of the rules of a rubric that a response keeps (CDRRM, 2603.08035).

    Gold: `rubric` with two lists of texts, `must` and `forbid`, such as a comparison of a good and a bad answer gives.
    With `strict=True` a response that does a forbidden thing scores 0. The judge is asked only whether each rule's
    description is found, not which of the two it is. `show=False` hides the media. One call of the judge.
    """
    given = rollout.answer.get("rubric") if isinstance(rollout.answer, Mapping) else None
    must, forbid = (_texts(given.get(name)) if isinstance(given, Mapping) else [] for name in ("must", "forbid"))
    if not must and not forbid:
        return abstain("gold has no rubric with must or forbid")
    response = extract.answer_text(rollout.answered)
    if not response:
        return NO_RESPONSE
    rules = [*must, *forbid]
    found = await verdict_of(
        judge,
        template("rubric_check"),
        data={"question": user_text(rollout.prompt), "response": response, "rules": _listed(rules)},
        plain={"count": str(len(rules))},
        shown=shown(rollout.media) if show else (),
        parse=lambda reply: replies.flags(reply, "found", len(rules)),
    )
    missing = [rule for rule, there in zip(must, found, strict=False) if not there]
    broken = [rule for rule, there in zip(forbid, found[len(must) :], strict=True) if there]
    score = 0.0 if strict and broken else 1 - len(missing + broken) / len(rules)
    return Verdict(score, f"missing: {missing}, forbidden: {broken}"[:300])


@judged
async def nugget_support(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean over the gold facts of 1 for support, 0.5 for partial support, 0 for none (Search-Gen-V, 2510.14660).

    Gold: `nuggets`, a list of facts. The labels are those of the paper; their values are ours. One call of the judge.
    """
    nuggets = _texts(rollout.answer.get("nuggets")) if isinstance(rollout.answer, Mapping) else []
    if not nuggets:
        return abstain("gold has no nuggets")
    response = extract.answer_text(rollout.answered)
    if not response:
        return NO_RESPONSE
    labels = await verdict_of(
        judge,
        template("nugget_check"),
        data={"question": user_text(rollout.prompt), "response": response, "nuggets": _listed(nuggets)},
        plain={"count": str(len(nuggets))},
        parse=functools.partial(_labels, count=len(nuggets)),
    )
    score = sum(LABELS[label] for label in labels) / len(labels)
    return Verdict(score, ", ".join(f"{labels.count(label)} {label}" for label in LABELS))


async def _ranked(judge: Judge, principle: str, rollout: Rollout, texts: Sequence[str]) -> list[Verdict]:
    """The verdicts on different responses to one prompt; a fault is that of all."""
    names = [f"response-{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(texts)]]
    try:
        scores = await verdict_of(
            judge,
            template("principle_ranking"),
            data={
                "question": user_text(rollout.prompt),
                "responses": _listed(dict(zip(names, texts, strict=True))),
            },
            plain={"principle": principle, "count": str(len(texts))},
            shown=shown(rollout.media),
            parse=functools.partial(scores_by_name, names=names),
        )
    except Fault as fault:
        if fault.too_long and texts != [BRIEF]:
            return await _without_longest(judge, principle, rollout, texts)
        return [failed(f"{judge.name}: {fault}")] * len(texts)
    except MediaError as fault:
        return [failed(f"media: {fault}")] * len(texts)
    return [Verdict((score - 1) / (TOP - 1), f"{score} of {TOP} among {len(texts)}") for score in scores]


async def _without_longest(judge: Judge, principle: str, rollout: Rollout, texts: Sequence[str]) -> list[Verdict]:
    """The verdicts where the judge cannot read all responses: the longest scores 0, the others are asked again."""
    longest = max(texts, key=len)
    rest = [text for text in texts if text is not longest]
    verdicts = await _ranked(judge, principle, rollout, rest or [BRIEF])
    own = TOO_LONG if any(verdict.kind != "failed" for verdict in verdicts) else verdicts[0]
    of_rest = iter(verdicts)
    return [own if text is longest else next(of_rest) for text in texts]


def scores_by_name(found: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """The scores of a listwise reply in the order of `names`, if it scores and ranks all of them without contradiction.

    >>> scores_by_name({"scores": {"a": 2, "b": 5}, "best-to-worst": ["b", "a"]}, ["a", "b"])
    [2, 5]
    """
    scores, ranked = found.get("scores"), found.get("best-to-worst")
    if not isinstance(scores, Mapping) or sorted(scores) != sorted(names):
        raise Unreadable(f"scores is {scores!r:.200}, not one score for each of {', '.join(names)}")
    values = {name: replies.in_range(scores[name], name, 1, TOP) for name in names}
    if any(value != int(value) for value in values.values()):
        raise Unreadable(f"scores are {values}, not whole numbers")
    if (
        not isinstance(ranked, list)
        or not all(isinstance(item, str) for item in ranked)
        or sorted(ranked) != sorted(names)
    ):
        raise Unreadable(f"best-to-worst is {ranked!r:.200}, not a ranking of {', '.join(names)}")
    if any(values[better] < values[worse] for better, worse in itertools.pairwise(ranked)):
        raise Unreadable("the ranking contradicts the scores")
    return [int(values[name]) for name in names]


def _labels(found: dict[str, Any], *, count: int) -> list[str]:
    labels = found.get("labels")
    if not isinstance(labels, list) or len(labels) != count or not all(label in LABELS for label in map(str, labels)):
        raise Unreadable(f"labels is {labels!r:.200}, not a list of {count} of {', '.join(LABELS)}")
    return labels


def _parts(texts: list[str], most: int) -> list[list[str]]:
    return [texts[start : start + most] for start in range(0, len(texts), most)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _texts(listed: Any) -> list[str]:
    return (
        [item for item in listed if isinstance(item, str) and item.strip()] if isinstance(listed, list | tuple) else []
    )


def _listed(texts: Sequence[str] | Mapping[str, str]) -> str:
    return json.dumps(texts, ensure_ascii=False)
