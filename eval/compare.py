"""Compares two runs item by item: the paired difference, its interval, and the items that flipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.metrics import paired_estimate
from eval.records import Record, RunInfo, differences, read_records, read_run
from eval.report import Cell, applicable, check_scorer, table
from mmrl.core.config import InputError

RIGHT = 0.5  # the lowest score of a solved item


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Paired differences `after - before` over the items that both runs scored, per task and reward.

    The draws of an item are averaged first. `gained` and `lost` list the items that crossed 0.5, upwards and downwards.
    `protocol` lists the differences between the two protocols.
    """
    (old, old_records), (new, new_records) = _scored_run(before), _scored_run(after)
    if old.scorer != new.scorer:
        raise InputError(
            f"{before} and {after} were scored by different rewards; score one like the other first: "
            f"mmrl eval score {after} {before}"
        )
    live, _ = applicable([*old_records, *new_records])
    cells = table(old_records, live), table(new_records, live)
    pairs = {pair: _difference(cells[0][pair], cells[1].get(pair, [])) for pair in cells[0]}
    rows = [{"task": task, "reward": reward, **row} for (task, reward), row in pairs.items() if row["n"]]
    if not rows:
        raise InputError(f"{before} and {after} have no item in common that both have a score of")
    return {
        "protocol": differences({**old.protocol, "model": old.model}, {**new.protocol, "model": new.model}),
        "unmatched": len({r.item_id for r in old_records} ^ {r.item_id for r in new_records}),
        "rows": rows,
    }


def _scored_run(out: Path) -> tuple[RunInfo, list[Record]]:
    info, records = read_run(out), read_records(out)
    check_scorer(out, info, records)
    return info, records


def _difference(before: Sequence[Cell], after: Sequence[Cell]) -> dict[str, Any]:
    old, new = _by_item(before), _by_item(after)
    clusters = {cell.item: cell.cluster for cell in before}
    items = sorted(old.keys() & new.keys())
    estimate = paired_estimate([old[i] for i in items], [new[i] for i in items], [clusters[i] for i in items])
    return {
        "before": fmean(old[i] for i in items) if items else None,
        "after": fmean(new[i] for i in items) if items else None,
        "n": estimate.n,
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "gained": [i for i in items if old[i] < RIGHT <= new[i]],
        "lost": [i for i in items if new[i] < RIGHT <= old[i]],
    }


def _by_item(cells: Iterable[Cell]) -> dict[str, float]:
    """The mean score of each item that has a score."""
    scores: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        if cell.score is not None:
            scores[cell.item].append(cell.score)
    return {item: fmean(values) for item, values in scores.items()}
