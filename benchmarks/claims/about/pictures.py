"""Claims about policies that make pictures: the demo's editor, searched as it is, or taught more."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from data_engine.schema import Sample
from data_engine.sources.editing.conditions import conditions
from data_engine.sources.synthesis import Split
from eval.config import EvalConfig
from eval.run import run as answered
from mmrl.demo.editor.steps import CHECKPOINT, HERE
from mmrl.demo.steps import curated
from mmrl.flow.arguments import FlowArguments
from mmrl.flow.trainer import ConsistencyTrainer
from mmrl.model.flow.loading import load_editor
from mmrl.model.flow.pictures import condition_of, opened, row_of
from mmrl.model.flow.policy import PicturePolicy
from mmrl.model.flow.sampling import generator, sampled
from mmrl.trainers.dataset import as_dataset
from rewards import Suite

EVALUATIONS, STEPS = 40, 4  # of the network for a picture; of a sampler
RULE = {"match": {"fn": "edit_match"}}
EDGES = {"edges": {"fn": "condition_match", "args": {"extractor": "edges"}}}


@dataclass(frozen=True, slots=True)
class Arm:
    """The settings of a search, with the noise of its steps, or changes to the block `flow:` of a training, and `words`
    of the command line, which change the rest of it."""

    name: str
    settings: dict[str, Any]
    noise: float = 0.0
    words: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PictureClaim(ABC):
    """What a paper says, and the experiment: `new` against `old` on the same held-out photographs."""

    paper: str
    claim: str
    setting: str
    new: Arm
    old: Arm
    pictures: int
    measure: str

    @abstractmethod
    def quick(self) -> Self:
        """The same with little to do."""

    @abstractmethod
    def score(self, arm: Arm, seed: int, place: Path, data: Path) -> Mapping[str, float]:
        """What an arm reaches, by the name of each measure; its files go to `place`."""

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed; what is done under `out` is not done again."""
        return [self._known(self.new, seed, out) - self._known(self.old, seed, out) for seed in seeds]

    def _known(self, arm: Arm, seed: int, out: Path) -> float:
        place = out / f"{arm.name}-{self.pictures}-{seed}"
        if not (place / "score.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "score.json").write_text(json.dumps(self.score(arm, seed, place, curated(out / "edits", HERE))))
        return json.loads((place / "score.json").read_text())[self.measure]


@dataclass(frozen=True, kw_only=True)
class SearchClaim(PictureClaim):
    """Two ways to search with the same number of evaluations of the network; the rule is the guide and the measure."""

    pictures: int = 30
    measure: str = "match"

    def quick(self) -> Self:
        """The same with two photographs."""
        return replace(self, pictures=2)

    def score(self, arm: Arm, seed: int, place: Path, data: Path) -> Mapping[str, float]:
        """The mean of the rule."""
        values = {
            "engine": "flow",
            "model": str(CHECKPOINT),
            "data": {"path": str(data), "limit": self.pictures},
            "rewards": RULE,
            "decode": {"rewards": RULE, "gold": True, **arm.settings},
            "flow": {"steps": STEPS, "noise": arm.noise},
            "sampling": {"seed": seed},
            "out": str(place / "made"),
        }
        records = answered(EvalConfig.model_validate(values))
        return {self.measure: fmean(record.scores["match"] or 0.0 for record in records)}


@dataclass(frozen=True, kw_only=True)
class ConditionClaim(PictureClaim):
    """Two ways to learn to make photographs with given edges, from the same draws; the demo's editor knows nothing of
    the task. Measured on held-out photographs by an extractor that no arm is trained on, Pillow's."""

    pictures: int = 300
    steps: int = 150
    measure: str = "edges"

    def quick(self) -> Self:
        """The same with a step and few photographs."""
        return replace(self, pictures=4, steps=1)

    def score(self, arm: Arm, seed: int, place: Path, data: Path) -> Mapping[str, float]:
        """Minus a thousand times the mean squared error of the edges of the pictures made."""
        policy = load_editor(CHECKPOINT)
        args = FlowArguments(
            str(place), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, seed=seed,
            algorithm="consistency", options={"times": 4, **arm.settings}, max_steps=self.steps,
            per_device_train_batch_size=4, learning_rate=3e-4,
        )  # fmt: skip
        learned = as_dataset(_photographs(400, "train"))
        ConsistencyTrainer(policy, rewards=Suite(EDGES), args=args, train_dataset=learned).train()
        test = _photographs(self.pictures, "test")
        gaps = [np.square(_edges(one) - _edges(other)).mean() for one, other in _made(policy, test, seed)]
        return {self.measure: -1000 * float(np.mean(gaps))}


def _photographs(count: int, split: Split) -> list[Sample]:
    made = conditions(n=count, side=16, split=split, text="blur it")
    return [replace(sample, id=f"{split}-{number}") for number, sample in enumerate(made)]


def _made(policy: PicturePolicy, samples: Sequence[Sample], seed: int) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Pictures made in ten steps without noise, each with the photograph whose edges it was to have."""
    condition = condition_of(policy, [row_of(sample) for sample in samples])
    noise = policy.noise(condition, [generator("claim", seed, sample.id) for sample in samples])
    clean = sampled(policy, condition, noise, policy.times(10, condition), level=0).clean
    yield from zip(policy.pictures(clean, condition), opened([sample.media[1] for sample in samples]), strict=True)


def _edges(picture: Image.Image) -> NDArray[np.float64]:
    return np.asarray(picture.convert("L").filter(ImageFilter.FIND_EDGES), dtype=np.float64) / 255


def _best_of_n(noise: float) -> Arm:
    name = f"best_of_n-{noise:g}"
    return Arm(name, {"method": "best_of_n", "n": EVALUATIONS // STEPS}, noise)


PICTURES: dict[str, PictureClaim] = {
    "dts_star": SearchClaim(
        paper="DTS* (2506.20701)",
        claim="a tree over the steps finds better pictures than best of n, at equal evaluations of the network",
        setting=f"edits of the demo's editor, {EVALUATIONS} evaluations each, noisy steps; the rule, DTS* - best of n",
        new=Arm("dts_star", {"method": "dts_star", "evaluations": EVALUATIONS}, 0.7),
        old=_best_of_n(0.7),
    ),
    "reno": SearchClaim(
        paper="ReNO (2406.04312)",
        claim="following the gradient of a reward finds better pictures than best of n, at equal forwards",
        setting=f"edits of the demo's editor, {EVALUATIONS} forwards each; the rule, ReNO - best of n",
        new=Arm("reno", {"method": "reno", "steps": EVALUATIONS // STEPS}),
        old=_best_of_n(0.0),
    ),
    "consistency": ConditionClaim(
        paper="ControlNet++ (2404.07987)",
        claim="the consistency loss brings the condition of pictures nearer than flow matching alone, in as many steps",
        setting="photographs with given edges, 150 steps from the demo's editor; thousandths of the squared error of "
        "Pillow's edges fewer, weight 300 - weight 0",
        new=Arm("consistency", {"weight": 300.0}),
        old=Arm("flow_matching", {"weight": 1e-9}),
    ),
}
