"""The reward for naming the objects in the picture and no others, probed object by object."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import judged, verdict_of
from rewards.judge_client.templates import template
from rewards.parse import extract
from rewards.parse.coco_objects import SYNONYMS, objects_named


@dataclass(frozen=True)
class Probes:
    """Counts of yes/no probes, positive class yes (POPE, 2305.10355).

    >>> probes = Probes(true_yes=40, false_yes=10, true_no=45, false_no=5)
    >>> [round(value, 7) for value in (probes.accuracy, probes.precision, probes.recall, probes.f1, probes.yes_ratio)]
    [0.85, 0.8, 0.8888889, 0.8421053, 0.5]
    """

    true_yes: int
    false_yes: int
    true_no: int
    false_no: int

    @property
    def accuracy(self) -> float:
        """The share of probes answered right."""
        return _share(self.true_yes + self.true_no, self._all)

    @property
    def precision(self) -> float:
        """The share of yes that is right."""
        return _share(self.true_yes, self.true_yes + self.false_yes)

    @property
    def recall(self) -> float:
        """The share of present objects that got a yes."""
        return _share(self.true_yes, self.true_yes + self.false_no)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.true_yes, 2 * self.true_yes + self.false_yes + self.false_no)

    @property
    def yes_ratio(self) -> float:
        """The share of yes."""
        return _share(self.true_yes + self.false_yes, self._all)

    @property
    def _all(self) -> int:
        return self.true_yes + self.false_yes + self.true_no + self.false_no


@judged
async def object_probing(
    rollout: Rollout,
    *,
    judge: Judge,
    metric: Literal["f1", "accuracy"] = "f1",
    negatives: Annotated[int | None, Field(ge=1)] = None,
) -> Verdict:
    """How well a judge that has the caption alone answers, for each object of a list, whether it is there (POPE).

    POPE (2305.10355) asks the model; here its caption is asked, so that the reward is for free text. Gold: `objects`
    that are there, and `absent` ones; without `absent`, as many COCO objects as there are objects (or `negatives`) are
    drawn by the hash of the gold, which is POPE's random setting. The list is shuffled by the same hash. `metric` is
    `f1` or `accuracy`.
    """
    answer: Mapping[str, Any] = rollout.answer if isinstance(rollout.answer, Mapping) else {}
    present = _names(answer.get("objects"))
    if not present:
        return abstain("gold has no objects to probe")
    caption = extract.answer_text(rollout.answered)
    if not caption:
        return unparsed("no caption to probe")
    absent = _names(answer.get("absent")) or _drawn(present, negatives or len(present))
    asked = [*present, *absent]
    _dice(asked).shuffle(asked)
    there = await verdict_of(
        judge,
        template("object_probe"),
        data={"caption": caption, "objects": json.dumps(asked, ensure_ascii=False)},
        plain={"count": str(len(asked))},
        parse=lambda found: replies.flags(found, "there", len(asked)),
    )
    seen = {name for name, yes in zip(asked, there, strict=True) if yes}
    right, wrong = len(seen & set(present)), sorted(seen & set(absent))
    probes = Probes(right, len(wrong), len(absent) - len(wrong), len(present) - right)
    score = probes.f1 if metric == "f1" else probes.accuracy
    return Verdict(score, f"{right} of {len(present)} there, {len(wrong)} of {len(absent)} not there: {wrong}"[:300])


def _names(listed: Any) -> list[str]:
    """Object names, each once."""
    names = [name.strip() for name in listed if isinstance(name, str)] if isinstance(listed, list | tuple) else []
    return list(dict.fromkeys(filter(None, names)))


def _drawn(present: list[str], count: int) -> list[str]:
    """`count` COCO objects that are not among `present` by any of their names."""
    there = {name for name in present for name in objects_named(name)} | {name.casefold() for name in present}
    others = sorted(name for name in SYNONYMS if name not in there)
    return _dice(present).sample(others, min(count, len(others)))


def _dice(names: list[str]) -> random.Random:
    return random.Random(hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogatepass")).digest())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
