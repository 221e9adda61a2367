"""Try claims of papers, five seeds each.

    python -m benchmarks.claims [NAME ...] [--seeds 5] [--out DIR] [--quick] [--json FILE]

A row says what a paper claims and what came out: the mean difference between its way and the usual one, and Student's
95 % interval over seeds. `confirmed`: the interval is above zero; `refuted`: below; else `not visible at this size`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.claims.about.boxes import BOXES
from benchmarks.claims.about.captions import CAPTION_CLAIMS
from benchmarks.claims.about.decoding import DECODING
from benchmarks.claims.about.editors import EDITORS
from benchmarks.claims.about.estimators import ESTIMATORS
from benchmarks.claims.about.heads import HEADS, OwnAnswersClaim
from benchmarks.claims.about.holes import HOLES
from benchmarks.claims.about.pairs import PAIRS_JUDGED
from benchmarks.claims.about.pictures import PICTURES, PictureClaim
from benchmarks.claims.about.policies import POLICIES
from benchmarks.claims.about.preferences import PREFERENCES
from benchmarks.claims.about.queries import QUERIES
from benchmarks.claims.about.repairs import REPAIRS
from benchmarks.claims.about.sequences import SEQUENCES
from benchmarks.claims.about.steps import STEPS
from benchmarks.claims.about.thoughts import THOUGHTS, ThoughtClaim
from benchmarks.claims.about.tools import TOOLS, ToolClaim
from benchmarks.claims.about.trees import TREES
from benchmarks.claims.claim import Claim, LearnerClaim
from benchmarks.claims.policy_claim import PolicyClaim
from benchmarks.rounds import parser_of, save

Tried = Claim | LearnerClaim | PolicyClaim | PictureClaim | OwnAnswersClaim | ThoughtClaim | ToolClaim
CLAIMS: dict[str, Tried] = (
    ESTIMATORS
    | SEQUENCES
    | TREES
    | QUERIES
    | PAIRS_JUDGED
    | BOXES
    | POLICIES
    | CAPTION_CLAIMS
    | PICTURES
    | EDITORS
    | HEADS
    | HOLES
    | REPAIRS
    | PREFERENCES
    | DECODING
    | THOUGHTS
    | TOOLS
    | STEPS
)


def main() -> None:
    """Try the claims and print the table."""
    parser = parser_of(__doc__, "two seeds, few rollouts: that it runs, not what it shows")
    parser.add_argument("name", nargs="*", choices=[*CLAIMS, []], default=[], help="all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where the runs of policies stay; a temporary directory by default")
    options = parser.parse_args()
    chosen = [CLAIMS[name] for name in options.name or CLAIMS]
    if options.quick:
        options.seeds, chosen = 2, [claim.quick() for claim in chosen]
    with tempfile.TemporaryDirectory() as directory:
        rows = [tried(claim, range(options.seeds), options.out or Path(directory)) for claim in chosen]
    table = Table("paper", "claim", "verdict", "difference")
    for row in rows:
        table.add_row(row["paper"], row["claim"], row["verdict"], _shown(row))
    Console(width=140).print(table)
    save(rows, options.json)


def tried(claim: Tried, seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """The row of a claim."""
    differences = claim.differences(seeds, out)
    mean, error = float(np.mean(differences)), float(stats.sem(differences))
    reach = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return {
        "paper": claim.paper,
        "claim": claim.claim,
        "setting": claim.setting,
        "verdict": verdict(mean - reach, mean + reach),
        "difference": mean,
        "low": mean - reach,
        "high": mean + reach,
        "seeds": len(differences),
    }


def verdict(low: float, high: float) -> str:
    """What an interval says of a claim.

    >>> verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)
    ('confirmed', 'refuted', 'not visible at this size')
    """
    return "confirmed" if low > 0 else "refuted" if high < 0 else "not visible at this size"


def _shown(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


if __name__ == "__main__":
    main()
