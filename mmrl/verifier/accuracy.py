"""Pair accuracy, from an evaluation's records: how often a verifier scores the preferred side of a pair higher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.metrics import mean_estimate, paired_estimate
from eval.records import Record, read_records
from mmrl.core.config import InputError

ALL = "all"


def pair_accuracy(out: Path, reward: str) -> list[dict[str, Any]]:
    """Pair accuracy of the records in `out`, of all pairs and of each `meta["fault"]`, with bootstrap intervals over
    pairs; with it the shares of ties and of chains without a readable score."""
    records = read_records(out)
    verdicts, faults = pair_verdicts(records, reward), faults_of(records)
    rows = []
    for fault in (ALL, *sorted(set(faults.values()) - {ALL})):
        names = [name for name in verdicts if fault in (ALL, faults[name])]
        kinds = [record.kinds.get(reward) for record in records if record.meta["pair"] in names]
        rows.append(
            {
                "fault": fault,
                **asdict(mean_estimate([verdicts[name] for name in names])),
                "ties": fmean(verdicts[name] == 0.5 for name in names),
                "unread": fmean(kind == "unparsed" for kind in kinds),
            }
        )
    return rows


def gained(before: Path, after: Path, reward: str) -> dict[str, Any]:
    """The paired difference of pair accuracy, `after - before`, over the same pairs."""
    old, new = (pair_verdicts(read_records(out), reward) for out in (before, after))
    if old.keys() != new.keys():
        raise InputError(f"{before} and {after} have {len(old.keys() ^ new.keys())} pairs that the other has not")
    return asdict(paired_estimate([old[name] for name in old], [new[name] for name in old]))


def pair_verdicts(records: Sequence[Record], reward: str) -> dict[Any, float]:
    """By pair: 1 where the preferred side's mean score is the higher, 0 where it is the lower, 0.5 for a tie.

    Draws without a readable score are left out of the mean; a side without any loses against one that has some.
    """
    sides: dict[Any, dict[bool, list[Record]]] = defaultdict(lambda: {True: [], False: []})
    for record in records:
        if "pair" not in record.meta or not isinstance(record.meta.get("preferred"), bool):
            raise InputError(f"item {record.item_id} is not a side of a pair: its meta needs pair and preferred")
        if reward not in record.scores:
            raise InputError(f"item {record.item_id} has no score by {reward!r}; there are {sorted(record.scores)}")
        sides[record.meta["pair"]][record.meta["preferred"]].append(record)
    return {name: _verdict(name, both, reward) for name, both in sides.items()}


def faults_of(records: Sequence[Record]) -> dict[Any, str]:
    """The fault of the side that is not preferred, by pair."""
    return {record.meta["pair"]: str(record.meta.get("fault", ALL)) for record in records}


def _verdict(name: Any, both: Mapping[bool, Sequence[Record]], reward: str) -> float:
    if len({r.item_id for r in both[True]}) != 1 or len({r.item_id for r in both[False]}) != 1:
        raise InputError(f"pair {name!r} needs one preferred side and one other side in the records")
    won, lost = (_mean_score(both[preferred], reward) for preferred in (True, False))
    return 1.0 if won > lost else 0.5 if won == lost else 0.0


def _mean_score(records: Sequence[Record], reward: str) -> float:
    scores = [r.scores[reward] for r in records if r.kinds.get(reward) != "unparsed"]
    read = [score for score in scores if score is not None]
    return fmean(read) if read else float("-inf")
