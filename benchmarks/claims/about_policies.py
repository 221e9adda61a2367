"""Claims that need a policy that sees: the demo's, trained by GRPO in two ways on the same questions.

A run takes a minute or more on one core, so what is done under `--out` is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.claims.band import dataset, difficulties, like, within
from benchmarks.learning import ACCURACY
from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample
from eval.difficulty import FILE, measured
from eval.records import ALL
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
class Arm:
    """Changes to the demo's training, and which samples of the pool it trains on."""

    name: str
    changes: dict[str, Any]
    chosen: Chosen = lambda pool, seed, out: pool


@dataclass(frozen=True, kw_only=True)
class PolicyClaim:
    """What a paper says, and the experiment: `new` against `old` after so many steps, measured on held-out answers.

    `measure` reads the reports of the greedy and of the sampled evaluation. `tasks` are those trained on and measured.
    """

    paper: str
    claim: str
    setting: str
    new: Arm
    old: Arm
    measure: Callable[[Report, Report], float]
    tasks: tuple[str, ...] = ("choice", "yesno", "count", "number", "grounding", "temporal")
    steps: int = 40
    test: int = 60

    def quick(self) -> PolicyClaim:
        """The same with few steps and questions."""
        return replace(self, steps=2, test=4)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed."""
        return [self._measured(self.new, seed, out) - self._measured(self.old, seed, out) for seed in seeds]

    def _measured(self, arm: Arm, seed: int, out: Path) -> float:
        tasks = "-".join(self.tasks)
        place = out / f"{arm.name}-{tasks}-{self.steps}-{seed}".replace(" ", "_")
        if not (place / "reports.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "reports.json").write_text(json.dumps(self._reports(arm, seed, place, out)))
        return self.measure(*json.loads((place / "reports.json").read_text()))

    def _reports(self, arm: Arm, seed: int, place: Path, out: Path) -> list[Report]:
        """Train, evaluate greedily and by several draws."""
        data = demo.curated(out / "data")
        pool, test = (
            [sample for sample in selected(read_samples(data, split=split), limit) if sample.task in self.tasks]
            for split, limit in (("train", POOL), ("test", self.test))
        )
        own = dataset(arm.chosen(pool, seed, out), test, place / "data")
        base = demo.training(own, place, None)
        grpo = (base.grpo or {}) | arm.changes.get("grpo", {}) | {"max_steps": self.steps, "save_strategy": "no"}
        config = TrainConfig.model_validate(base.model_dump() | arm.changes | {"seed": seed, "grpo": grpo})
        final = run(config)
        asked = config.model_copy(update={"rewards": ACCURACY})
        return [report(demo.evaluated(asked, final, place, name, draws=DRAWS)) for name in ("greedy", "sampled")]


def greedy(answers: Report, draws: Report) -> float:
    """The mean score of greedy answers over tasks."""
    return fmean(row["mean"] for row in answers["rows"] if row["reward"] in ACCURACY and row["task"] != ALL)


def passed(answers: Report, draws: Report) -> float:
    """The share of questions which one of eight draws answers right, the mean over tasks."""
    return fmean(
        at["pass"] for row in draws["draws"] if row["reward"] in ACCURACY for at in row["k"] if at["k"] == DRAWS
    )


# Vision-R1: rules that become harder


def _overlap(least: float) -> dict[str, Any]:
    return {"fn": "box_iou", "args": {"threshold": least}}


def _boxes(rule: dict[str, Any]) -> dict[str, Any]:
    return {"rewards": {"grounding": rule | {"tasks": ["grounding"]}, "format": {"fn": "think_format", "weight": 0.2}}}


RISING = Arm(
    "rising", _boxes({"fn": "progressive", "args": {"reward": _overlap(0.5), "schedule": {0.5: _overlap(0.75)}}})
)


def _rising(old: str, least: float, until: str) -> PolicyClaim:
    """The threshold that rises against one that stays."""
    return PolicyClaim(
        paper="Vision-R1 (2503.18013)",
        claim=f"a threshold that rises at half of the training teaches more than the {old} one {until}",
        setting=f"boxes of digits; IoU of greedy answers, from 0.5 to 0.75 - {least}",
        new=RISING,
        old=Arm(old, _boxes(_overlap(least))),
        measure=greedy,
        tasks=("grounding",),
    )


# THR: tokens weigh by what they do to the right answers


def _numbers(tokens: dict[str, Any]) -> dict[str, Any]:
    number = {"fn": "number_match", "tasks": ["number", "count"]}
    rewards = {"number": number, "format": {"fn": "think_format", "weight": 0.2}}
    return {"rewards": rewards, "advantages": {"name": "grpo"} | tokens}


def _thr(p: float, side: str, gaining: str, measure: Callable[[Report, Report], float]) -> PolicyClaim:
    """Weights of tokens against none."""
    return PolicyClaim(
        paper="THR (2510.03669)",
        claim=f"with p {side} 0 {gaining} more than without weights of tokens",
        setting=f"counting, and the first digit of a video; p = {p} - GRPO",
        new=Arm(f"thr {p}", _numbers({"tokens": {"thr": {"reward": "number", "p": p}}})),
        old=Arm("grpo", _numbers({})),
        measure=measure,
        tasks=("count", "number"),
    )


# The difficulty band


def _band(pool: Sequence[Sample], out: Path) -> list[Sample]:
    """The samples that the policy gets right sometimes, more than by guessing, or whose scores vary."""
    config = difficulties(out, POOL, [])
    if not (out / "difficulty" / FILE).exists():
        measured(config)
    return within(pool, config, out / "difficulty" / FILE)


POLICIES: dict[str, PolicyClaim] = {
    "progressive_strict": _rising("strict", 0.75, "from the start"),
    "progressive_lenient": _rising("lenient", 0.5, "to the end"),
    "thr_exploit": _thr(0.1, "above", "greedy answers gain", greedy),
    "thr_explore": _thr(-0.1, "below", "pass@8 gains", passed),
    "band": PolicyClaim(
        paper="difficulty band (ours)",
        claim="questions that are right sometimes teach more than as many drawn at random",
        setting="the demo's six tasks, 200 questions each; greedy answers, within the band - at random",
        new=Arm("band", {}, lambda pool, seed, out: _band(pool, out)),
        old=Arm("random", {}, lambda pool, seed, out: like(_band(pool, out), pool, seed)),
        measure=greedy,
    ),
}
