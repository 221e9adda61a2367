"""CapArena-Auto: a judge compares a caption with that of one of three models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import picture
from eval.benchmarks.metrics import groups, mean, mean_words, prefixed, unparsed_share
from eval.benchmarks.published.decapbench import LONG_CAPTION
from eval.benchmarks.scoring import by_protocol, prompt, reply_of
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold
from rewards.chat_client.faults import Unreadable
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judged.captions import NO_CAPTION
from rewards.parse.extract import answer_text

_BETTER = re.compile(r"(Caption 1 is better|Caption 2 is better|Tie)\.?")


def caparena_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image with the caption of one of three models and one by a person; the hash of its name decides the order."""
    name, captions, rival = str(row["key"]), dict(row["captions"]), str(row["ref_model"])
    if rival not in captions or "human" not in captions:
        raise InputError(f"{name}: captions of {', '.join(captions)}; expected {rival} and human")
    first = hashlib.sha256(name.encode()).digest()[0] % 2 == 0
    answer = {"references": [str(captions["human"])], "rival": str(captions[rival]), "first": first}
    meta = {"rival": rival, "first": first}
    yield Item(name, "caption", LONG_CAPTION, answer, picture(row.get("image") or name), meta)


def caparena_metrics(records: Sequence[Record]) -> Metrics:
    """(wins - losses) / battles x 100 against each reference model, and the mean of them; mean length in words."""
    battles = groups(records, "rival")
    scores = {name: _battle(group) for name, group in battles.items()}
    return {
        "judge_caparena": mean(scores.values()),
        **prefixed("judge_caparena", scores),
        "length": mean_words(records),
        "unparsed": unparsed_share(records, "judge_caparena"),
    }


@by_protocol
async def caparena_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge prefers the caption to another one, 0.5 for a tie, 0 otherwise (CapArena-Auto).

    Gold: `rival`, the other caption, `references`, of which the judge sees the first, and `first`, whether the judged
    caption comes first. A reply must be one of the three sentences exactly, up to a final period.
    """
    caption, rival, references = answer_text(rollout.answered), gold(rollout, "rival"), gold(rollout, "references")
    if not isinstance(rival, str) or not references:
        return abstain("gold has no rival, or no reference")
    if not caption:
        return NO_CAPTION
    first = bool(gold(rollout, "first"))
    order = (caption, rival) if first else (rival, caption)
    data = {"reference": str(references[0]), "first": order[0], "second": order[1]}
    predicted = await reply_of(judge, prompt("caparena"), _better, data=data, shown=shown(rollout.media))
    score = 0.5 if predicted == "Tie" else float((predicted == "Caption 1 is better") == first)
    return Verdict(score, f"{prompt('caparena').name}: {predicted}; this is caption {1 if first else 2}")


def _better(reply: str) -> str:
    """The verdict, which is one of three sentences.

    >>> _better(" Caption 1 is better. ")
    'Caption 1 is better'
    """
    predicted = _BETTER.fullmatch(reply.strip())
    if not predicted:
        raise Unreadable(f"{reply!r:.50} is not one of the three verdicts")
    return predicted[1]


def _battle(records: Iterable[Record]) -> float | None:
    outcome = mean(None if (score := r.scores.get("judge_caparena")) is None else 2 * score - 1 for r in records)
    return None if outcome is None else 100 * outcome


BENCHMARKS = [
    Benchmark(
        name="caparena_auto",
        about="A detailed description. Wins minus losses against captions of three models.",
        hub="njucckevin/CapArena, caparena_auto_600.json",
        columns=("key", "captions", "ref_model"),
        items=caparena_items,
        scorers={},
        metrics=caparena_metrics,
        known_by="judge_caparena",
        rows=600,
        needs="a judge that sees pictures (published: GPT-4o)",
        judged={"judge_caparena": default("eval.benchmarks.published.caparena:caparena_judged")},
    ),
]
