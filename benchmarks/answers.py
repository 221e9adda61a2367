"""What the rewards make of a table of answers that were checked by hand: precision and recall of "right", by reward.

    python -m benchmarks.answers [--table FILE] [--json FILE] [--wrong]

Right is what earns 1. Precision is the share of the answers that earn 1 that are right, recall the share of the right
ones that earn 1. `withheld` counts golds of which a part cannot be read, and of how many there is rightly no verdict.
With `--wrong` each case that is judged wrongly is printed. `PYTHONPATH=OTHER python -P benchmarks/answers.py` runs the
table on another checkout.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rewards
from rewards import Rollout, Verdict

TABLE = Path(__file__).parent.parent / "tests" / "data" / "answers.jsonl"
RIGHT = 1 - 1e-6


def verdict_of(case: dict[str, Any]) -> Verdict:
    """The verdict on one case."""
    reward = rewards.get(case["reward"], **case.get("params", {}))
    return reward([Rollout(case["completion"], case["gold"])])[0]


def row(name: str, cases: Sequence[dict[str, Any]], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Counts, precision and recall of one reward."""
    pairs = list(zip(cases, verdicts, strict=True))
    earned = [case["score"] for case, verdict in pairs if verdict.score is not None and verdict.score >= RIGHT]
    right = sum(case["score"] == 1 for case in cases)
    hits, unreadable = earned.count(1), [verdict for case, verdict in pairs if case["score"] is None]
    return {
        "reward": name,
        "cases": len(cases),
        "precision": hits / len(earned) if earned else 1.0,
        "recall": hits / right if right else 1.0,
        "wrong that earn": len(earned) - hits,
        "right that lose": right - hits,
        "withheld": f"{sum(verdict.score is None for verdict in unreadable)} of {len(unreadable)}",
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Score the table and print a row for each reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wrong", action="store_true")
    options = parser.parse_args(argv)
    cases = [json.loads(line) for line in options.table.read_text(encoding="utf-8").splitlines()]
    verdicts = [verdict_of(case) for case in cases]
    names = ["all", *sorted({case["reward"] for case in cases})]
    rows = []
    for name in names:
        chosen = [i for i, case in enumerate(cases) if name in ("all", case["reward"])]
        rows.append(row(name, [cases[i] for i in chosen], [verdicts[i] for i in chosen]))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for one in rows:
        print(
            "| "
            + " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in one.values())
            + " |"
        )
    for case, verdict in zip(cases, verdicts, strict=True) if options.wrong else ():
        if (verdict.score is not None and verdict.score >= RIGHT) != (case["score"] == 1):
            print(case["reward"], case["gold"], repr(case["completion"]), case["score"], verdict, sep=" | ")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
