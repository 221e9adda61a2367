"""Claims about the labels of steps: a head that has learned them picks among eight answers better than the majority,
and better than a head that has learned the labels of whole answers alone.

The policy, the demo's after a few supervised steps, names the digits of a picture one by one, and then says how many
there are. Its answers to a training question are a tree: a step ends behind each digit, and its label is the share of
right answers among those that begin alike up to there. The head learns these labels, and sees no gold answer when it
picks. The goal, written down before the five seeds, is an interval above zero. Seed 900 has chosen the policy, of which
one draw in two is right, and the score at the end of an answer (0.655 right) before the least (0.635) and the mean
(0.610) of its steps.

The second head learns from the same answers in the same order, in as many steps, by the same seed; of their labels it
sees only the one at the end of each answer. The second claim was added after the first had been seen. Its goal, written
down before any such head was trained, is an interval above zero as well: both heads by their last score. No setting was
chosen for it.

    python -m benchmarks.claims.about.steps DIR

prints what is right by each way to pick in the runs that `python -m benchmarks.claims step_labels outcome_labels --out
DIR` left.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks.claims.about.decoding import records
from benchmarks.claims.about.heads import PAIRS, REWARDS, Numbers, OwnAnswersClaim
from benchmarks.claims.band import dataset
from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample, with_id
from eval.pass_at_k import majority
from eval.preferences.ranking import Aggregate, select
from eval.records import Record
from eval.score import rollout_of
from mmrl.train.config import TrainConfig
from mmrl.train.run_steps import write_tree_steps
from mmrl.train.stages import run
from rewards.heads.process_model import process_model

AFTER = " "  # the end of a step, in which a digit is named
ANSWERS = 16  # to each training question
WAYS: tuple[Aggregate, ...] = get_args(Aggregate)
OUTCOME = "outcome "  # before a way to pick: by the head that has learned the labels of whole answers alone


@dataclass(frozen=True, kw_only=True)
class StepsClaim(OwnAnswersClaim):
    """The share of right answers: `one` draw of eight, the `majority`, the `oracle`, and what each head picks by the
    `mean`, the `min` and the `last` of its scores."""

    warm: int = 8
    lessons: int = 200
    pool: int = 500
    test: int = 200

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """All see the same eight draws. A seed is another order of the lessons, and other draws."""
        drawn = records("demo_sampled.yaml", base, place / "draws", [f"sampling.seed={seed}"])
        labels = self._labels(base, start)
        outcome = dataset(map(of_outcome, read_samples(labels)), [], start / "outcome-labels")
        numbers: Numbers = {}
        for head, data in (("", labels), (OUTCOME, outcome)):
            steps = self._steps(base, data, drawn, place / f"{head}head".replace(" ", "-"), seed)
            found = picked(drawn, steps, REWARDS[self.task])
            numbers |= {f"{head}{way}" if way in WAYS else way: score for way, score in found.items()}
        return numbers

    def _steps(
        self, base: TrainConfig, labels: Path, drawn: Sequence[Record], place: Path, seed: int
    ) -> list[list[float]]:
        """The scores of the steps of each answer, by a head that has learned these labels."""
        reward = {**PAIRS, "per_device_train_batch_size": 32, "learning_rate": 5e-4, "max_steps": self.lessons}
        blocks = {"grpo": None, "rewards": {}, "reward": reward, "head": {"kind": "process"}, "seed": seed}
        blocks |= {"data": str(labels), "output": str(place)}
        head = run(TrainConfig.model_validate(base.model_dump() | blocks))
        scored = process_model([rollout_of(one) for one in drawn], model=str(head), after=AFTER, batch=50)
        return [[span.score for span in verdict.spans] or [0.0] for verdict in scored]

    def _labels(self, base: TrainConfig, start: Path) -> Path:
        """The policy's answers to the training questions with the labels of their steps."""
        labels, drawn = start / "step-labels", [f"sampling.samples={ANSWERS}", "data.split=train"]
        if not (labels / "manifest.json").exists():
            records("demo_sampled.yaml", base, start / "tree", drawn)
            write_tree_steps(start / "tree", REWARDS[self.task], labels, after=AFTER)
        return labels


def of_outcome(sample: Sample) -> Sample:
    """An answer with scored steps, of which only the last keeps its score."""
    *before, last = sample.answer["step_scores"]
    return with_id(replace(sample, answer={**sample.answer, "step_scores": [*(None for _ in before), last]}))


def picked(drawn: Sequence[Record], steps: Sequence[Sequence[float]], reward: str) -> Numbers:
    """The mean score over questions of each way to pick one of the answers to a question; `steps` has an answer's."""
    rows = sorted(zip(drawn, steps, strict=True), key=lambda row: (row[0].item_id, row[0].draw))
    found: list[Numbers] = []
    for _, group in groupby(rows, key=lambda row: row[0].item_id):
        answers, of_steps = zip(*group, strict=True)
        right = [answer.scores[reward] or 0.0 for answer in answers]
        voted, _ = majority([answer.answer_text for answer in answers])
        found.append({"one": fmean(right), "majority": right[voted], "oracle": max(right)})
        found[-1] |= {way: right[select(of_steps, way)] for way in WAYS}
    return {way: fmean(numbers[way] for numbers in found) for way in found[0]}


def table(out: Path) -> Table:
    """What is right by each way to pick: the mean over seeds, and each seed."""
    runs = [json.loads(file.read_text()) for file in sorted(out.glob("StepsClaim-*/numbers.json"))]
    table = Table("picked by", "right", "by seed")
    for way in ("one", "majority", *WAYS, *(f"{OUTCOME}{way}" for way in WAYS), "oracle"):
        table.add_row(way, f"{fmean(run[way] for run in runs):.3f}", ", ".join(f"{run[way]:.3f}" for run in runs))
    return table


def _claim(claim: str, setting: str, before: str) -> StepsClaim:
    return StepsClaim(
        paper="ViLBench (2503.20271)",
        claim=claim,
        setting=f"counting digits, which are named one by one; right picks, the head by its last score - {setting}",
        before=before,
        after="last",
    )


STEPS: dict[str, OwnAnswersClaim] = {
    "step_labels": _claim(
        "a head that learned the labels of steps picks better among eight answers than the majority",
        "majority",
        "majority",
    ),
    "outcome_labels": _claim(
        "it picks better than a head that learned the labels of whole answers alone",
        "that head by its last score",
        f"{OUTCOME}last",
    ),
}

if __name__ == "__main__":
    Console(width=110).print(table(Path(sys.argv[1])))
