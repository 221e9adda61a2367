"""What estimators teach: the demo's policy trained by two of them, the same data, steps and rollouts, seed by seed.

    python -m benchmarks.learning [COMPARISON ...] [--seeds 5] [--steps 150] [--out DIR] [--quick] [--json FILE]

`gdpo`: decoupled rewards whitened per task against `grpo`, with three rewards of different scale, the smallest at
weight 1. `gdpo_weighed`: the same with that reward at weight 0.1, as decoupling asks of its user. `visurf`: the gold
answer as one of a group's rollouts against plain `grpo`, from a policy that has only learned to answer in form. Held
out, greedy and sampled; the interval of a difference is Student's over seeds. Runs that are done are not done again.

`level`: the demo's training against stock TRL's on its questions about pictures. The level is the lower of both sides'
rewards at the end, as means of ten steps. The rows are the steps until either is there, of as many rollouts, their CPU
seconds, and the rewards at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.peers import stock_grpo
from benchmarks.rounds import parser_of, save
from data_engine.dataset.shards import read_samples, write_dataset
from mmrl.core.config import load
from mmrl.demo import steps as demo
from mmrl.demo import warm
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run

ACCURACY: dict[str, Any] = {
    "choice": {"fn": "choice_match", "tasks": ["choice"]},
    "yesno": {"fn": "yesno_match", "tasks": ["yesno"]},
    "number": {"fn": "number_match", "tasks": ["number", "count"]},
    "grounding": {"fn": "box_iou", "tasks": ["grounding"]},
    "temporal": {"fn": "span_iou", "tasks": ["temporal"]},
}
SCALES: dict[str, Any] = ACCURACY | {
    "format": {"fn": "think_format", "weight": 0.2},
    "brevity": {"fn": "benchmarks.learning:brevity"},
}
WEIGHED: dict[str, Any] = SCALES | {"brevity": SCALES["brevity"] | {"weight": 0.1}}
DECOUPLED: dict[str, Any] = {"name": "gdpo", "options": {"whiten": "task"}}
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "gdpo": {
        "gdpo, whitened per task": {"rewards": SCALES, "advantages": DECOUPLED},
        "grpo": {"rewards": SCALES, "advantages": {"name": "grpo"}},
    },
    "gdpo_weighed": {
        "gdpo, whitened per task": {"rewards": WEIGHED, "advantages": DECOUPLED},
        "grpo": {"rewards": WEIGHED, "advantages": {"name": "grpo"}},
    },
    "visurf": {
        "visurf": {
            "rewards": ACCURACY | {"format": {"fn": "think_format", "weight": 0.2}},
            "advantages": {"name": "visurf"},
            "rollout": {"inject": {"unrewarded": ["format"]}},
        },
        "grpo": {
            "rewards": ACCURACY | {"format": {"fn": "think_format", "weight": 0.2}},
            "advantages": {"name": "grpo"},
        },
    },
}
STARTERS = 300  # supervised steps behind the policy of `visurf`: it answers in form and is mostly wrong


def brevity(rollouts: Any) -> list[float]:
    """From 0.02 down to 0: a reward a fiftieth as large as the others."""
    return [0.02 * max(0.0, 1 - len(rollout.completion) / 100) for rollout in rollouts]


def main() -> None:
    """Train, evaluate, compare."""
    parser = parser_of(__doc__, "two seeds, three steps: that it runs, not what it shows")
    parser.add_argument("comparison", nargs="*", choices=[*ARMS, "level", []], default=[], help="all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, help="where the runs stay; a temporary directory by default")
    arguments = parser.parse_args()
    seeds, steps = (2, 3) if arguments.quick else (arguments.seeds, arguments.steps)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        out = arguments.out or Path(directory)
        for comparison in arguments.comparison or [*ARMS, "level"]:
            if comparison == "level":
                rows += levels(out / comparison, out / "data", range(seeds), steps)
                continue
            scores = compared(comparison, out / comparison, out / "data", range(seeds), steps)
            Console(width=110).print(table(comparison, scores))
            rows += scores
    save(rows, arguments.json)


def compared(comparison: str, out: Path, data: Path, seeds: range, steps: int) -> list[dict[str, Any]]:
    """A row for every reward of every task, greedy and sampled: both arms' means and their paired difference."""
    data = demo.curated(data)
    model = beginner(out / "beginner", steps) if comparison == "visurf" else demo.CHECKPOINT
    scores = {
        arm: [held_out(changes, model, data, out / f"{number}-{seed}", seed, steps) for seed in seeds]
        for number, (arm, changes) in enumerate(ARMS[comparison].items())
    }
    ours, peer = scores.values()
    start = held_out(ARMS[comparison]["grpo"], model, data, out / "start", 0, 0)
    rows = []
    for key in ours[0]:
        first, second = (np.array([pair[key] for pair in of]) for of in (ours, peer))
        low, high = interval(first - second)
        rows.append({
            "case": f"{comparison}: {' '.join(key)}",
            "start": start[key],
            "ours": first.mean(),
            "peer": second.mean(),
            "ratio": first.mean() / second.mean() if second.mean() else None,
            "difference": (first - second).mean(),
            "low": low,
            "high": high,
            "unit": "mean score",
            "n": len(seeds),
        })  # fmt: skip
    return rows


def levels(out: Path, data: Path, seeds: range, steps: int) -> list[dict[str, Any]]:
    """What either side spends until the reward that both have at the end, and that reward: means, and their ratio seed
    by seed."""
    found: dict[str, list[list[float]]] = {"steps": [], "seconds": [], "reward": []}
    for seed in seeds:
        sides = curves(out / str(seed), data, seed, steps)
        ends = [smoothed([line["reward"] for line in side])[-1] for side in sides]
        for unit in ("steps", "seconds"):
            found[unit].append([cost_of(min(ends), side, unit) for side in sides])
        found["reward"].append(ends)
    rows = []
    for unit, pairs in found.items():
        ours_S, peer_S = np.array(pairs).T
        low, high = interval(ours_S / peer_S)
        means = {"ours": float(ours_S.mean()), "peer": float(peer_S.mean()), "ratio": float((ours_S / peer_S).mean())}
        rows.append({"case": f"level: {unit}", **means, "low": low, "high": high, "unit": unit, "n": len(seeds)})
    return rows


def curves(out: Path, data: Path, seed: int, steps: int) -> list[list[dict[str, Any]]]:
    """What our trainer and TRL's log of each step, on the demo's questions about pictures."""
    place = out / "curves.json"
    if not place.exists():
        shutil.rmtree(out, ignore_errors=True)  # of a training that was stopped, the seconds are not known
        train = read_samples(demo.curated(data), split="train")
        pictures = [sample for sample in train if sample.media[0].kind == "image"]
        write_dataset(pictures, out / "data")
        base = demo.training(out / "data", out, None)
        grpo = (base.grpo or {}) | {"max_steps": steps, "save_strategy": "no"}
        config = TrainConfig.model_validate(base.model_dump() | {"seed": seed, "grpo": grpo})
        sides = (
            timed(lambda: metrics(run(config).parent)),
            timed(lambda: stock_grpo.logged(demo.CHECKPOINT, pictures, config, out / "trl")),
        )
        place.write_text(json.dumps(sides))
    return json.loads(place.read_text())


def metrics(out: Path) -> list[dict[str, Any]]:
    """What our trainer logged of each step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "reward" in line]


def timed(training: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What a training logs of its steps, each with its share of the CPU seconds of the whole."""
    before = time.process_time()
    lines = training()
    return [line | {"seconds": (time.process_time() - before) / len(lines)} for line in lines]


def smoothed(rewards: Sequence[float], steps: int = 10) -> list[float]:
    """The mean of the last `steps` of each step.

    >>> smoothed([0, 1, 2, 3], steps=2)
    [0.0, 0.5, 1.5, 2.5]
    """
    return [float(np.mean(rewards[max(place - steps, 0) : place])) for place in range(1, len(rewards) + 1)]


def cost_of(level: float, lines: Sequence[Mapping[str, Any]], unit: str) -> float:
    """The number or the seconds of the steps until the smoothed reward is at the level; infinite if it never is.

    >>> lines = [{"reward": reward, "seconds": 2.0} for reward in (0.0, 0.4, 0.8)]
    >>> cost_of(0.4, lines, "seconds"), cost_of(0.4, lines, "steps"), cost_of(0.9, lines, "steps")
    (6.0, 3.0, inf)
    """
    reached = [place for place, reward in enumerate(smoothed([line["reward"] for line in lines])) if reward >= level]
    if not reached:
        return float("inf")
    until = lines[: reached[0] + 1]
    return float(sum(line["seconds"] for line in until) if unit == "seconds" else len(until))


def beginner(out: Path, steps: int) -> Path:
    """A policy from random weights after a short supervised warm-up."""
    if not (out / "checkpoint" / "config.json").exists():
        answers = [f"sft.max_steps={STARTERS if steps > 3 else 3}"]
        warm.main(out, out / "checkpoint", answers, sight_steps=0, whole=False)
    return out / "checkpoint"


def held_out(
    changes: dict[str, Any], model: Path, data: Path, out: Path, seed: int, steps: int
) -> dict[tuple[str, str, str], float]:
    """Scores on the test split, by decoding, task and reward, after `steps` of GRPO."""
    from eval.report import report

    place = out / "scores.json"
    if not place.exists():
        base = load(
            TrainConfig, demo.HERE / "train.yaml", [f"model={model}", f"data={data}", f"output={out / 'train'}"]
        )
        grpo = (base.grpo or {}) | changes.get("grpo", {}) | {"max_steps": steps, "save_strategy": "no"}
        values = base.model_dump() | changes | {"seed": seed, "grpo": grpo}
        config = TrainConfig.model_validate(values)
        final = run(config) if steps else model
        rows = []
        for name in ("greedy", "sampled"):
            numbers = report(demo.evaluated(config, final, out, name))["rows"]
            rows += [[name, row["task"], row["reward"], row["mean"]] for row in numbers]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(rows))
    return {(name, task, reward): mean for name, task, reward, mean in json.loads(place.read_text())}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Student's 95 % interval of the mean; NaN of fewer than two."""
    if len(differences) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean() - half), float(differences.mean() + half)


def table(comparison: str, rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    ours, peer = ARMS[comparison]
    table = Table("held out", "start", ours, peer, "difference (95 %)", "seeds")
    for row in rows:
        numbers = [f"{row[key]:.3f}" for key in ("start", "ours", "peer")]
        between = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        table.add_row(row["case"].split(": ")[1], *numbers, between, str(row["n"]))
    return table


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
