"""DeCapBench: detailed captions by DCScore, which compares facts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import listed_texts, picture
from eval.benchmarks.metrics import micro, unparsed_share
from eval.benchmarks.published.captions import B_CAP, b_cap_metrics
from eval.benchmarks.scoring import by_protocol, prompt
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judge_client.judged_reward import verdict_of
from rewards.judged.captions import NO_CAPTION
from rewards.parse.extract import answer_text

MOST_FACTS = 300
LONG_CAPTION = "Describe this image in detail."


@dataclass(frozen=True)
class Fact:
    """A fact of a caption: whether it is about the image, whether it is true, and the place of its oracle fact."""

    relevant: bool
    verified: bool
    oracle: int | None = None


def decapbench_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image with atomic facts and a caption by people."""
    facts = listed_texts(row["oracle_facts"])
    if not facts:
        raise InputError(f"{row['image_name']} has no oracle facts")
    answer = {"references": [str(row["oracle_caption"])], "units": facts}
    media = picture(row.get("image") or row["image_name"])
    yield Item(str(row["image_name"]), "caption", LONG_CAPTION, answer, media)


def decapbench_metrics(records: Sequence[Record]) -> Metrics:
    """DCScore from 0 to 100, a mean over captions."""
    score = micro(records, "judge_dcscore")
    return {
        "judge_dcscore": None if score is None else 100 * score,
        **b_cap_metrics(records),
        "unparsed": unparsed_share(records, "judge_dcscore"),
    }


@by_protocol
async def dcscore(rollout: Rollout, *, judge: Judge, trials: Annotated[int, Field(ge=1, le=25)] = 1) -> Verdict:
    """DCScore in [0, 1]: the mean of two F1, over all facts of the caption and over the relevant ones (DeCapBench).

    Gold: `units`, the facts of people, and `references`, of which the first helps to verify. The judge splits the
    caption into facts, then matches and verifies them `trials` times (with different seeds); scores are averaged.
    """
    caption = answer_text(rollout.answered)
    oracle, references = gold(rollout, "units"), gold(rollout, "references")
    if not isinstance(oracle, Sequence) or not oracle or not references:
        return abstain("gold has no units, or no reference")
    if not caption:
        return NO_CAPTION
    facts, relevant = await verdict_of(judge, prompt("decap_facts"), data={"caption": caption}, parse=_facts)
    if not facts:
        return Verdict(0.0, "the caption states no fact")
    asks = (_trial(judge, rollout, facts, list(oracle), str(references[0]), trial, trials) for trial in range(trials))
    scores = []
    for matched, verified in await asyncio.gather(*asks):
        judged = [Fact(*parts) for parts in zip(relevant, verified, matched, strict=True)]
        scores.append(decap(judged, len(oracle)))
    used = ", ".join(prompt(name).name for name in ("decap_facts", "decap_match", "decap_verify"))
    rounded = [round(score, 4) for score in scores]
    return Verdict(fmean(scores), f"{used}: {len(facts)} facts, {trials} trials {rounded}")


def decap(facts: Sequence[Fact], oracles: int) -> float:
    """DCScore in [0, 1] of the facts of a caption, with `oracles` oracle facts.

    >>> facts = [Fact(True, True, i) for i in range(4)] + [Fact(True, True)] * 1 + [Fact(True, False)] * 5
    >>> [round(value, 7) for value in precision_recall(facts, 6, facts)]
    [0.5, 0.7142857]
    """
    described = [fact for fact in facts if fact.relevant]
    return fmean(_f1(*precision_recall(part, oracles, facts)) for part in (facts, described))


def precision_recall(part: Sequence[Fact], oracles: int, facts: Sequence[Fact]) -> tuple[float, float]:
    """(verified facts / facts, (found oracle facts + verified new ones) / (oracle facts + verified new ones)).

    Several facts with one match share it: each counts 1 / the number of such `facts`, also if `part` has only some.
    """
    if not part:
        return 0.0, 0.0
    same = Counter(fact.oracle for fact in facts)
    verified = [fact for fact in part if fact.verified]
    new = sum(fact.oracle is None for fact in verified)
    covered = sum(1 / same[fact.oracle] for fact in verified if fact.oracle is not None)
    return len(verified) / len(part), (covered + new) / (oracles + new) if oracles + new else 0.0


async def _trial(
    judge: Judge, rollout: Rollout, facts: list[str], oracle: list[str], reference: str, trial: int, trials: int
) -> tuple[list[int | None], list[bool]]:
    """The matching oracle fact of each fact, and whether the fact is true."""
    listed, count = json.dumps(facts, ensure_ascii=False), str(len(facts))
    params = {"seed": trial} if trials > 1 else {}
    matched = verdict_of(
        judge,
        prompt("decap_match"),
        data={"facts": listed, "oracle": json.dumps(oracle, ensure_ascii=False)},
        plain={"count": count, "oracles": str(len(oracle))},
        parse=lambda reply: _matched(reply, len(facts), len(oracle)),
        params=params,
    )
    verified = verdict_of(
        judge,
        prompt("decap_verify"),
        data={"facts": listed, "reference": reference},
        plain={"count": count},
        shown=shown(rollout.media),
        parse=lambda reply: replies.flags(reply, "verified", len(facts)),
        params=params,
    )
    return await asyncio.gather(matched, verified)


def _facts(reply: dict[str, Any]) -> tuple[list[str], list[bool]]:
    facts = reply.get("facts")
    if not isinstance(facts, list) or len(facts) > MOST_FACTS or not all(isinstance(fact, str) for fact in facts):
        raise Unreadable(f"facts are {facts!r:.50}, not a list of at most {MOST_FACTS} texts")
    return facts, replies.flags(reply, "relevant", len(facts))


def _matched(reply: dict[str, Any], count: int, oracles: int) -> list[int | None]:
    places = reply.get("matched")
    if not isinstance(places, list) or len(places) != count:
        raise Unreadable(f"matched is {places!r:.50}, not a list of {count} places")
    for place in places:
        if place is not None and (isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < oracles):
            raise Unreadable(f"a match is {place!r:.20}, neither null nor a place from 0 to {oracles - 1}")
    return places


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


BENCHMARKS = [
    Benchmark(
        name="decapbench",
        about="A detailed description. DCScore from 0 to 100: facts of the caption against facts of people.",
        hub="MAGAer13/DeCapBench",
        columns=("image_name", "oracle_facts", "oracle_caption"),
        items=decapbench_items,
        scorers={},
        metrics=decapbench_metrics,
        known_by="judge_dcscore",
        rows=400,
        needs="a judge that sees pictures",
        judged={"judge_dcscore": default("eval.benchmarks.published.decapbench:dcscore"), **B_CAP},
    ),
]
