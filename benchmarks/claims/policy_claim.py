"""A claim that needs a policy that sees: one policy, trained by GRPO in two ways on the same questions.

What is done under `--out` is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.claims.band import dataset
from benchmarks.learning import ACCURACY
from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample
from eval.records import ALL, TOTAL
from eval.report import report
from eval.sample_sets import selected
from mmrl.demo import steps as demo
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run

POOL = 200  # training questions of each task
DRAWS = 8  # sampled answers to each held-out question

Report = dict[str, Any]
Chosen = Callable[[Sequence[Sample], int, Path], Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Start:
    """Where the policies of a claim begin, below `--out`: the data, and the weights after so many supervised steps.

    `scored` are the rewards of the answers that are measured.
    """

    data: Callable[[Path], Path]
    model: Callable[[Path, int], Path]
    scored: dict[str, Any]
    lessons: int = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """Changes to the demo's training, and which samples of the pool it trains on."""

    name: str
    changes: dict[str, Any]
    chosen: Chosen = lambda pool, seed, out: pool


DEMO = Start(data=lambda out: demo.curated(out / "data"), model=lambda out, lessons: demo.CHECKPOINT, scored=ACCURACY)


@dataclass(frozen=True, kw_only=True)
class PolicyClaim:
    """What a paper says, and the experiment: `new` against `old` after so many steps, measured on held-out answers.

    `measure` reads the reports of the evaluations, one for each of `decodings`. `tasks` are those trained on and
    measured, on `test` held-out questions each.
    """

    paper: str
    claim: str
    setting: str
    new: Arm
    old: Arm
    measure: Callable[[Sequence[Report]], float]
    decodings: tuple[str, ...] = ("greedy",)
    start: Start = DEMO
    tasks: tuple[str, ...] = ("choice", "yesno", "count", "number", "grounding", "temporal")
    steps: int = 40
    test: int = 60

    def quick(self) -> PolicyClaim:
        """The same with few steps and questions."""
        start = replace(self.start, lessons=min(self.start.lessons, 3))
        return replace(self, steps=2, test=4, start=start)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed."""
        return [self._measured(self.new, seed, out) - self._measured(self.old, seed, out) for seed in seeds]

    def _measured(self, arm: Arm, seed: int, out: Path) -> float:
        tasks = "-".join(self.tasks)
        place = out / f"{arm.name}-{tasks}-{self.steps}-{seed}".replace(" ", "_")
        if not (place / "reports.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "reports.json").write_text(json.dumps(self._reports(arm, seed, place, out)))
        return self.measure(json.loads((place / "reports.json").read_text()))

    def _reports(self, arm: Arm, seed: int, place: Path, out: Path) -> list[Report]:
        """Train and evaluate."""
        data = self.start.data(out)
        pool, test = (
            [sample for sample in selected(read_samples(data, split=split), limit) if sample.task in self.tasks]
            for split, limit in (("train", POOL), ("test", self.test))
        )
        own = dataset(arm.chosen(pool, seed, out), test, place / "data")
        base = demo.training(own, place, [f"model={self.start.model(out, self.start.lessons)}"])
        grpo = (base.grpo or {}) | arm.changes.get("grpo", {}) | {"max_steps": self.steps, "save_strategy": "no"}
        config = TrainConfig.model_validate(base.model_dump() | arm.changes | {"seed": seed, "grpo": grpo})
        final = run(config)
        asked = config.model_copy(update={"rewards": self.start.scored})
        return [report(demo.evaluated(asked, final, place, name, draws=DRAWS)) for name in self.decodings]


def greedy(reports: Sequence[Report]) -> float:
    """The mean score of greedy answers over tasks."""
    return fmean(row["mean"] for row in reports[0]["rows"] if row["reward"] != TOTAL and row["task"] != ALL)


def passed(reports: Sequence[Report]) -> float:
    """The share of questions which one of eight draws answers right, the mean over tasks."""
    return fmean(at["pass"] for row in reports[1]["draws"] for at in row["k"] if at["k"] == DRAWS)
