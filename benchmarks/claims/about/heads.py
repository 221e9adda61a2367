"""Claims about what learns from pairs of the policy's own answers: reward heads that teach it, and the stage `dpo`.

The policy, the demo's, draws eight answers to each training question; a rule chooses the best and the worst. The rule
measures greedy answers to held-out questions. What is done under `--out` is not done again, and `--seeds 1`,
then 2, and so on adds one seed at a time.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml

from benchmarks.claims.band import dataset
from benchmarks.claims.policy_claim import DRAWS, greedy
from benchmarks.learning import ACCURACY
from data_engine.dataset.shards import read_samples
from eval.preferences.pairwise import judged_preferences
from eval.records import ALL
from eval.report import report
from eval.sample_sets import selected
from mmrl.demo import steps as demo
from mmrl.train.config import TrainConfig
from mmrl.train.reference_scores import ScoreConfig, write_scored
from mmrl.train.run_pairs import write_pairs
from mmrl.train.stages import run

REWARDS = {"count": "number", "yesno": "yesno"}  # the rule of a task
FORM = {"fn": "think_format", "weight": 0.2}
QUIET = {"logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "bf16": False}
LINEAR = {"lr_scheduler_type": "linear", "warmup_steps": 5}
PAIRS = {**QUIET, **LINEAR, "per_device_train_batch_size": 16}
LESSONS = {**QUIET, **LINEAR, "per_device_train_batch_size": 32, "learning_rate": 5e-4}
Numbers = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class OwnAnswersClaim(ABC):
    """What is claimed, and the experiment: the score `after` minus the score `before`, names of measured numbers.

    All questions are of one `task`, or of all six: `pool` of each to learn from, and `test` held out. The policy to
    begin with is the demo's after `warm` supervised steps. A head, SFT or DPO learns for `lessons` steps, GRPO for
    `steps`.
    """

    paper: str
    claim: str
    setting: str
    before: str
    after: str
    task: str = "count"
    warm: int = 0
    lessons: int = 100
    steps: int = 40
    test: int = 100
    pool: int = 400

    def quick(self) -> Self:
        """The same with few steps and questions."""
        return replace(self, warm=min(self.warm, 2), lessons=2, steps=2, test=8, pool=16)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """After minus before, seed by seed."""
        numbers = [self._known(seed, out) for seed in seeds]
        return [number[self.after] - number[self.before] for number in numbers]

    @abstractmethod
    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """Train from `base`, the demo's config on these questions, in `place`; what came out, by name."""

    @property
    def watched(self) -> dict[str, Any]:
        """Rewards beside these."""
        return {}

    @property
    def experiment(self) -> str:
        """What is measured together."""
        return type(self).__name__

    def numbers(self, out: Path, place: Path, seed: int) -> Numbers:
        """What is measured in `place`: the rule's score of the first policy (`start`), and the rest."""
        start = out / f"start-{self.task}{f'-{self.warm}' if self.warm else ''}"
        base = self._begun(start, demo.curated(out / "data"))
        return {"start": rule(base, Path(base.model), start), **self.measured(base, start, place, seed)}

    def pairs(self, base: TrainConfig, start: Path, split: str) -> Path:
        """The pairs of the first policy's answers to a split."""
        folder = start / f"pairs-{split}"
        if not (folder / "manifest.json").exists():
            asked = base.model_copy(update={"rewards": ACCURACY})
            drawn = demo.evaluated(asked, Path(base.model), start, f"sampled-{split}", draws=DRAWS, split=split)
            write_pairs(drawn, REWARDS[self.task], folder, gap=0.5)
        return folder

    def taught(self, base: TrainConfig, reward: dict[str, Any], place: Path, seed: int, **changes: Any) -> float:
        """The rule's score of the policy after GRPO with a reward, the form, and those that are `watched`."""
        values: dict[str, Any] = base.model_dump() | {"seed": seed, "output": str(place / "policy")}
        values |= {"grpo": self.grpo(base, **changes), "rewards": {"head": reward, "format": FORM, **self.watched}}
        return rule(base, run(TrainConfig.model_validate(values)), place)

    def grpo(self, base: TrainConfig, **changes: Any) -> dict[str, Any]:
        """The block of the demo for `steps` steps."""
        return {**(base.grpo or {}), "max_steps": self.steps, "save_strategy": "no", **changes}

    def _known(self, seed: int, out: Path) -> Numbers:
        place = out / f"{self.experiment}-{self.task}-{self.steps}-{seed}"
        if not (place / "numbers.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "numbers.json").write_text(json.dumps(self.numbers(out, place, seed)))
        return json.loads((place / "numbers.json").read_text())

    def _begun(self, start: Path, data: Path) -> TrainConfig:
        """The demo's training on these questions, from the policy to begin with."""
        train, test = (
            [one for one in selected(read_samples(data, split=split), limit) if self.task in (one.task, ALL)]
            for split, limit in (("train", self.pool), ("test", self.test))
        )
        base = demo.training(dataset(train, test, start / "questions"), start, None)
        if not self.warm:
            return base
        blocks = {"grpo": None, "rewards": {}, "sft": {**LESSONS, "max_steps": self.warm}}
        return base.model_copy(update={"model": str(run(base.model_copy(update=blocks)))})


def rule(base: TrainConfig, model: Path, place: Path) -> float:
    """The rule's score of greedy answers to held-out questions."""
    asked = base.model_copy(update={"rewards": ACCURACY})
    return greedy([report(demo.evaluated(asked, model, place, "greedy"))])


class HeadClaim(OwnAnswersClaim):
    """A head learns from the pairs, and the policy from the head and the form alone."""

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """The rule's score of the policy (`policy`), and the share of held-out pairs ranked as the rule (`ranked`)."""
        head = self.head(base, self.pairs(base, start, "train"), place.parent, seed)
        (place / "suite.yaml").write_text(yaml.safe_dump({"rewards": {"head": head}}))
        [ranked] = judged_preferences(str(place / "suite.yaml"), self.pairs(base, start, "test"))["rows"]
        return {"policy": self.taught(base, head, place, seed), "ranked": ranked["mean"]}

    def head(self, base: TrainConfig, pairs: Path, out: Path, seed: int) -> dict[str, Any]:
        """The reward by the head of a seed, which is trained unless it is there."""
        reward = {**PAIRS, "learning_rate": 5e-4, "max_steps": self.lessons}
        blocks: dict[str, Any] = {"grpo": None, "reward": reward, "preferences": {"path": str(pairs)}, "rewards": {}}
        blocks |= {"output": str(out / f"head-{self.task}-{self.lessons}-{seed}"), "seed": seed}
        made = run(TrainConfig.model_validate(base.model_dump() | blocks))
        return {"fn": "reward_model", "args": {"model": str(made), "batch": 32}}

    def with_references(self, base: TrainConfig, head: dict[str, Any], place: Path) -> TrainConfig:
        """`base` on its questions with the scores of four answers of the first policy."""
        length = self.grpo(base)["max_completion_length"]
        values = base.model_dump(include={"model", "vision", "space"})
        values |= {"data": {"path": base.data, "split": "train"}, "rewards": {"head": head}, "reward": "head"}
        values |= {"sampling": {"do_sample": True, "samples": 4, "max_new_tokens": length}, "batch_size": 50}
        values |= {"out": str(place / "references"), "dataset": str(place / "questions")}
        write_scored(ScoreConfig.model_validate(values))
        return base.model_copy(update={"data": str(place / "questions")})


def par(head: dict[str, Any]) -> dict[str, Any]:
    """The head against the scores of references (PAR)."""
    return {"fn": "shape", "args": {"method": "par", "logit": True, "reward": head}}


class ShapedClaim(HeadClaim):
    """The same head, as it is (`raw`) and against the scores of four answers of the first policy (`par`)."""

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """The rule's scores of both policies."""
        given = {name: getattr(self, name) for name in HeadClaim.__dataclass_fields__}
        raw = HeadClaim(**given)._known(seed, place.parent)["policy"]
        head = self.head(base, self.pairs(base, start, "train"), place.parent, seed)
        return {"raw": raw, "par": self.taught(self.with_references(base, head, place), par(head), place, seed)}


class StagesClaim(OwnAnswersClaim):
    """One config: the right answers are learned, then the pairs, then GRPO follows with the rule itself."""

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """The rule's score after each stage."""
        output, values = place / "stages", dict[str, Any](base.model_dump())
        sft = {**LESSONS, "max_steps": self.lessons}
        dpo = {**PAIRS, "learning_rate": 1e-4, "max_steps": self.lessons}
        blocks = {"sft": sft, "dpo": dpo, "grpo": self.grpo(base)}
        blocks["preferences"] = {"path": str(self.pairs(base, start, "train"))}
        run(TrainConfig.model_validate(values | blocks | {"output": str(output), "seed": seed}))
        stages = {"sft": output / "sft", "dpo": output / "dpo", "grpo": output}
        return {name: rule(base, folder / "final", place / name) for name, folder in stages.items()}


def _stage(name: str, before: str, what: str) -> StagesClaim:
    return StagesClaim(
        paper=f"SFT, DPO, GRPO ({name})",
        claim=f"{what} raises the rule's score",
        setting=f"counting digits, one config of three stages; right greedy answers, after {name} - before",
        before=before,
        after=name,
    )


def _head(task: str, what: str) -> HeadClaim:
    return HeadClaim(
        paper="reward models (1706.03741)",
        claim="GRPO with a head that learned from pairs of a policy's answers raises the score of the rule behind them",
        setting=f"{what}, pairs of eight draws; right greedy answers, after 40 steps with the head - before",
        before="start",
        after="policy",
        task=task,
    )


HEADS: dict[str, OwnAnswersClaim] = {
    "head": _head("count", "counting digits"),
    "head_yesno": _head("yesno", "yes or no about shapes"),
    "head_par": ShapedClaim(
        paper="PAR (2502.18770)",
        claim="a bounded preference over references is hacked less than the head as it is",
        setting="counting digits, a head that likes large counts; right greedy answers after 40 steps, PAR - raw",
        before="raw",
        after="par",
    ),
    "stage_sft": _stage("sft", "start", "supervised training on right answers"),
    "stage_dpo": _stage("dpo", "sft", "DPO behind it, on pairs of the first policy's answers,"),
    "stage_grpo": _stage("grpo", "dpo", "GRPO behind both, with the rule,"),
}
