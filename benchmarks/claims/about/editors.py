"""Claims about how an editor learns: the demo's, trained by reinforcement learning and tried on held-out edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np

from benchmarks.claims.about.pictures import Arm, PictureClaim
from data_engine.dataset.shards import read_samples
from mmrl.core.media.pictures import as_media
from mmrl.demo.editor.steps import CHECKPOINT, HERE, RIGHT, edited
from mmrl.demo.steps import training
from mmrl.train.stages import run as trained
from rewards import Rollout, Verdict
from rewards.base import per_rollout
from rewards.rules.edits import pixels_of

CHANGE = "change"
NEARNESS = "nearness"  # minus the distance to the nearest of the known pictures


@per_rollout
def change(rollout: Rollout) -> Verdict:
    """A careless judge: the mean difference to the source, in [0, 1], wherever it is and whatever was asked for."""
    source, made = map(pixels_of, (rollout.media[0], rollout.made[-1]))
    return Verdict(float(np.abs(made - source).mean()))


@dataclass(frozen=True, kw_only=True)
class TrainingClaim(PictureClaim):
    """Two ways to learn from as many pictures, but where an arm has fewer steps; both begin with the demo's editor and
    are measured on the demo's held-out instructions. An arm of no step is that editor."""

    pictures: int = 300
    steps: int = 20
    measure: str = RIGHT

    def quick(self) -> Self:
        """The same with a step and few photographs."""
        return replace(self, pictures=4, steps=1)

    def score(self, arm: Arm, seed: int, place: Path, data: Path) -> Mapping[str, float]:
        """The share of right edits, how near edits are to known pictures, and how much they change."""
        config = training(data, place, [f"model={CHECKPOINT}", f"seed={seed}", *arm.words], HERE)
        flow: dict[str, Any] = {**(config.flow or {}), "max_steps": self.steps, **arm.settings}
        steps = min(flow["max_steps"], self.steps)
        flow |= {"max_steps": steps, "save_strategy": "no", "save_pictures_steps": 0}
        final = trained(config.model_copy(update={"flow": flow})) if steps else CHECKPOINT
        test = list(read_samples(data, split="test"))[: self.pictures]
        edits = edited(final, test, flow["sampling_steps"])
        shown = [Rollout("", media=edit.sample.media[:1], made=[as_media(edit.made)]) for edit in edits]
        return {
            RIGHT: fmean(edit.kind == RIGHT for edit in edits),
            NEARNESS: -fmean(edit.distance for edit in edits),
            CHANGE: fmean(verdict.score or 0.0 for verdict in change(shown)),
        }


BEFORE = Arm("before", {"max_steps": 0})
FLOW_GRPO = Arm("flow_grpo", {"algorithm": "flow_grpo", "options": {}})
CARELESS = (f"rewards={{careless: {{fn: '{__name__}:change'}}}}",)
ANCHORED = Arm("crd-careless", {}, words=CARELESS)
FREE = Arm("crd-careless-free", {"options": {"times": 2, "anchor": 0, "adaptive": False}}, words=CARELESS)
HACKED = "the demo's editor, 20 steps of CRD on a judge that pays for any change of the source"

EDITORS: dict[str, TrainingClaim] = {
    "crd": TrainingClaim(
        paper="CRD (2603.14128)",
        claim="distilling centred rewards teaches more than a policy gradient on stochastic steps",
        setting="the demo's editor, 20 steps of 96 pictures; right edits, CRD - Flow-GRPO, both with their anchor",
        new=Arm("crd", {}),
        old=FLOW_GRPO,
    ),
    "dense_grpo": TrainingClaim(
        paper="DenseGRPO (2601.20218)",
        claim="gains of steps teach more than the reward of the last picture, in as much time",
        setting="the demo's editor; right edits, 9 steps of DenseGRPO - 20 of Flow-GRPO, which take as long",
        new=Arm("dense_grpo", {"algorithm": "dense_grpo", "options": {}, "max_steps": 9}),
        old=FLOW_GRPO,
    ),
    "prdp": TrainingClaim(
        paper="PRDP (2402.08714)",
        claim="predicting differences of rewards teaches more than a policy gradient, in as many pictures",
        setting="the demo's editor, 20 steps of 96 pictures; right edits, PRDP - Flow-GRPO",
        new=Arm("prdp", {"algorithm": "prdp", "options": {}}, words=("advantages.name=dr_grpo",)),
        old=FLOW_GRPO,
    ),
    "hacking": TrainingClaim(
        paper="CRD (2603.14128)",
        claim="without its anchor, CRD earns more from a careless judge than the policy before",
        setting=f"{HACKED}; what the judge pays for held-out edits, after without anchor - before",
        measure=CHANGE,
        new=FREE,
        old=BEFORE,
    ),
    "hacked": TrainingClaim(
        paper="CRD (2603.14128)",
        claim="and its pictures leave the known ones",
        setting="the same; the distance to the nearest known picture, after without anchor - before",
        measure=NEARNESS,
        new=BEFORE,
        old=FREE,
    ),
    "anchor": TrainingClaim(
        paper="CRD (2603.14128)",
        claim="with its anchor, its pictures stay nearer to the known ones than without",
        setting="the same; the distance that the anchor saves",
        measure=NEARNESS,
        new=ANCHORED,
        old=FREE,
    ),
    "anchor_right": TrainingClaim(
        paper="CRD (2603.14128)",
        claim="and more edits are right",
        setting="the same; right edits, with anchor - without",
        new=ANCHORED,
        old=FREE,
    ),
}
