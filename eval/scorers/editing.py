"""Edited pictures judged by the protocols of GEdit-Bench and ImgEdit-Bench; media: the source, then the edit."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from statistics import fmean
from typing import Any

from eval.scorers.judged import by_protocol, prompt
from rewards.base import Rollout, Verdict, gold, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown_as
from rewards.judge_client.judged_reward import verdict_of

NO_EDIT = {"gedit": {"SC": 0.0, "PQ": 0.0}, "imgedit": {"score": 0.0, "as_said": 0.0}}


@by_protocol
async def gedit(rollout: Rollout, *, judge: Judge) -> Verdict:
    """sqrt(SC x PQ) over 10: SC is the lower of two semantic scores, PQ that of two scores of quality (GEdit-Bench).

    Gold: `instruction`. A missing edit is 0. `why` holds SC and PQ as JSON.
    """
    if len(rollout.media) < 2:
        return unparsed(json.dumps(NO_EDIT["gedit"]))
    source, edit = (shown_as(item, label) for item, label in zip(rollout.media, ("Original:", "Edit:"), strict=False))
    read = functools.partial(_scores, count=2, low=0, high=10)
    semantic, quality = await asyncio.gather(
        verdict_of(judge, prompt("gedit_semantics"), data=_instruction(rollout), shown=(source, edit), parse=read),
        verdict_of(judge, prompt("gedit_quality"), data={}, shown=(edit,), parse=read),
    )
    sc, pq = min(semantic), min(quality)
    return Verdict(math.sqrt(sc * pq) / 10, json.dumps({"SC": sc, "PQ": pq, "prompt": prompt("gedit_semantics").name}))


@by_protocol
async def imgedit(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean of three scores from 1 to 5, rounded to 2 decimals, over 5 (ImgEdit-Bench).

    What exceeds the first score counts as that, as the protocol rules; `as_said` in `why` is without this, which is
    what the released code computes. Gold: `instruction` and `kind`. A missing edit is 0.
    """
    if len(rollout.media) < 2:
        return unparsed(json.dumps(NO_EDIT["imgedit"]))
    pair = tuple(shown_as(item, label) for item, label in zip(rollout.media, ("Original:", "Edit:"), strict=False))
    said = await verdict_of(
        judge,
        prompt("imgedit"),
        data={**_instruction(rollout), "kind": str(gold(rollout, "kind"))},
        shown=pair,
        parse=functools.partial(_scores, count=3, low=1, high=5),
    )
    score = round(fmean(min(one, said[0]) for one in said), 2)
    return Verdict(
        score / 5, json.dumps({"score": score, "as_said": round(fmean(said), 2), "prompt": prompt("imgedit").name})
    )


def _instruction(rollout: Rollout) -> dict[str, str]:
    return {"instruction": str(gold(rollout, "instruction"))}


def _scores(found: dict[str, Any], *, count: int, low: float, high: float) -> list[float]:
    scores = found.get("score")
    if not isinstance(scores, list) or len(scores) != count:
        raise Unreadable(f"score is {scores!r:.50}, not a list of {count} numbers")
    return [replies.in_range(one, "score", low, high) for one in scores]
