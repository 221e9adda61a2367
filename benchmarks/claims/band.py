"""What choosing by difficulty teaches: the demo's policy trained on the samples within its band, and on as many drawn
from the same pool, seed by seed.

    python -m benchmarks.claims.band [counts.least=2 counts.most=6 ...] [--seeds 5] [--steps 40] [--limit 200]
        [--test 60] [--batch 128] [--out DIR] [--quick] [--json FILE]

The pool is the demo's training samples, `--limit` of each task. `mmrl data difficulty` draws the policy's answers to
them, and the operator `difficulty` keeps those that are right sometimes, more than by guessing, or whose scores vary;
`key=value` changes where its bands lie (configs/difficulty/demo.yaml).
The other arm has as many of each task, drawn by hash, another draw for each seed. Both train equally long. Held out,
greedy and sampled; the interval of a difference is Student's over seeds. Runs that are done are not done again.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.learning import held_out, interval
from benchmarks.rounds import parser_of, save
from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.operator import Dropped
from data_engine.ops.difficulty import difficulty
from data_engine.ops.quotas import quota
from data_engine.schema import Sample
from eval.difficulty import FILE, DifficultyConfig, measured
from eval.sample_sets import selected
from mmrl.core.config import load
from mmrl.demo import steps as demo

CONFIG = Path(__file__).parents[2] / "configs" / "difficulty" / "demo.yaml"
ARMS = ("within the band", "drawn from the pool")


def main() -> None:
    """Measure difficulty, choose, train, evaluate, compare."""
    parser = parser_of(__doc__, "two seeds, three steps: that it runs, not what it shows")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes to configs/difficulty/demo.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--limit", type=int, default=200, help="samples of each task in the pool")
    parser.add_argument("--test", type=int, default=60, help="held-out samples of each task")
    parser.add_argument("--batch", type=int, default=128, help="rollouts of a step, eight of each prompt")
    parser.add_argument("--out", type=Path, help="where the runs stay; a temporary directory by default")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps, options.limit, options.test = 2, 3, 20, 5
    with tempfile.TemporaryDirectory() as directory:
        out = options.out or Path(directory)
        config = difficulties(out, options.limit, options.changes)
        rows = compared(config, out, range(options.seeds), options.steps, options.test, options.batch)
    Console(width=110).print(table(rows))
    save(rows, options.json)


def difficulties(out: Path, limit: int, changes: Sequence[str]) -> DifficultyConfig:
    """The config that measures the pool, `limit` samples of each task."""
    data = demo.curated(out / "data")
    given = [f"model={demo.CHECKPOINT}", f"data.path={data}", f"data.limit={limit}", *changes]
    return load(DifficultyConfig, CONFIG, given).model_copy(update={"out": str(out / "difficulty")})


def compared(
    config: DifficultyConfig, out: Path, seeds: range, steps: int, tested: int, batch: int
) -> list[dict[str, Any]]:
    """A row for every reward of every task and of all, greedy and sampled: both arms, and how they differ."""
    changes = {"grpo": {"per_device_train_batch_size": batch}}
    if not (out / "difficulty" / FILE).exists():
        measured(config)
    data = Path(config.data.path)
    pool = selected(read_samples(data, split="train"), config.data.limit)
    test = selected(read_samples(data, split="test"), tested)
    band = within(pool, config, out / "difficulty" / FILE)
    print(f"of {_by_task(pool)}\nwithin the band {_by_task(band)}", flush=True)
    places = {ARMS[0]: [dataset(band, test, out / "band")] * len(seeds)}
    places[ARMS[1]] = [dataset(like(band, pool, seed), test, out / f"random-{seed}") for seed in seeds]
    start = held_out(changes, demo.CHECKPOINT, places[ARMS[0]][0], out / "start", 0, 0)
    scores: dict[str, list[dict[Any, float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for number, arm in enumerate(ARMS):
            place = out / f"run-{number}-{seed}"
            scores[arm].append(held_out(changes, demo.CHECKPOINT, places[arm][seed], place, seed, steps))
    return [_row(key, value, scores, len(seeds)) for key, value in start.items()]


def within(pool: Iterable[Sample], config: DifficultyConfig, file: Path) -> list[Sample]:
    """The samples of the pool that the operator keeps."""
    bands: dict[str, Any] = {"counts": config.counts, "spread": config.spread}
    outcomes = difficulty(iter(pool), file=file.absolute(), **bands)
    return [outcome for outcome in outcomes if isinstance(outcome, Sample)]


def like(band: Iterable[Sample], pool: Iterable[Sample], seed: int) -> list[Sample]:
    """As many samples of each task as in the band, drawn from the pool."""
    counts = Counter(sample.task for sample in band)
    drawn = quota(iter(pool), n=counts.total(), by="task", shares=dict(counts), seed=seed)
    return [outcome for outcome in drawn if not isinstance(outcome, Dropped)]


def dataset(train: Iterable[Sample], test: Iterable[Sample], out: Path) -> Path:
    """A dataset directory with these samples, written unless it is there."""
    if not (out / "manifest.json").exists():
        write_dataset([*train, *test], out)
    return out


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table("held out", "start", *ARMS, "difference (95 %)", "seeds")
    for row in rows:
        numbers = [f"{row[key]:.3f}" for key in ("start", "ours", "peer")]
        between = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        table.add_row(row["case"], *numbers, between, str(row["n"]))
    return table


def _row(key: tuple[str, str, str], start: float, scores: dict[str, list[dict[Any, float]]], n: int) -> dict[str, Any]:
    ours, peer = (np.array([score[key] for score in scores[arm]]) for arm in ARMS)
    low, high = interval(ours - peer)
    means = {"start": start, "ours": float(ours.mean()), "peer": float(peer.mean())}
    ratio = means["ours"] / means["peer"] if means["peer"] else None
    between = {"difference": float((ours - peer).mean()), "low": low, "high": high}
    return {"case": " ".join(key), **means, "ratio": ratio, **between, "unit": "mean score", "n": n}


def _by_task(samples: Iterable[Sample]) -> str:
    counts = Counter(sample.task for sample in samples)
    return f"{counts.total()} samples: " + ", ".join(f"{task} {count}" for task, count in sorted(counts.items()))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
