"""Claims about latent reasoning: a head that thinks before the demo's policy, which stays as it is.

DLR (2601.17275) reports that a small model's vectors before a frozen one lift its answers, and trains them with a
contrastive loss of good and bad ones. Settings were chosen on seed 900.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.claims.about.heads import LINEAR, QUIET
from benchmarks.claims.policy_claim import DEMO, Report, greedy
from eval.config import EvalConfig
from eval.report import report
from eval.run import run as evaluate
from mmrl.demo import steps as demo
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run

TOKENS = 24  # of an answer


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to think, as settings of the block `latent:`; `None` is the policy without a thought."""

    name: str
    latent: dict[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ThoughtClaim:
    """What is claimed, and the experiment: the score of held-out greedy answers, `new` minus `old`."""

    claim: str
    setting: str
    new: Arm
    old: Arm
    paper: str = "DLR (2601.17275)"
    steps: int = 60
    prompts: int = 16
    rate: float = 1e-3
    test: int = 300

    def quick(self) -> ThoughtClaim:
        """The same with few steps and questions."""
        return replace(self, steps=2, prompts=4, test=12)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """New minus old, seed by seed."""
        return [self._measured(self.new, seed, out) - self._measured(self.old, seed, out) for seed in seeds]

    def _measured(self, arm: Arm, seed: int, out: Path) -> float:
        own = "" if arm.latent is None else f"-{self.steps}-{seed}"
        place = out / f"{arm.name}{own}".replace(" ", "_")
        if not (place / "report.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "report.json").write_text(json.dumps(self._report(arm, seed, place, out)))
        return greedy([json.loads((place / "report.json").read_text())])

    def _report(self, arm: Arm, seed: int, place: Path, out: Path) -> Report:
        base = demo.training(DEMO.data(out), place, []).model_dump()
        decode = {} if arm.latent is None else {"decode": {"method": "latent", "head": self._head(arm, seed, base)}}
        asked = {"model": base["model"], "data": {"path": base["data"], "split": "test", "limit": self.test}}
        kept = {name: base[name] for name in ("vision", "space")}
        scored = {"rewards": DEMO.scored, "out": str(place / "eval"), "sampling": {"max_new_tokens": TOKENS}}
        evaluate(EvalConfig.model_validate(asked | kept | scored | decode | {"batch_size": 50}))
        return report(place / "eval")

    def _head(self, arm: Arm, seed: int, base: dict[str, Any]) -> str:
        settings = {"max_steps": self.steps, "learning_rate": self.rate, "max_completion_length": TOKENS}
        latent = {**QUIET, **LINEAR, **settings, "per_device_train_batch_size": self.prompts, **(arm.latent or {})}
        return str(run(TrainConfig.model_validate(base | {"grpo": None, "latent": latent, "seed": seed})))


PLAIN = Arm("without", None)
THOUGHT = Arm("thought")
MEASURED = "demo's policy and mix, 60 steps of 16 prompts of 8 thoughts; greedy held-out answers"
THOUGHTS: dict[str, ThoughtClaim] = {
    "thought": ThoughtClaim(
        claim="a thought of four vectors before a frozen model lifts its answers",
        setting=f"{MEASURED}, with - without it",
        new=THOUGHT,
        old=PLAIN,
    ),
    "thought_contrast": ThoughtClaim(
        claim="the contrastive loss and the spread help",
        setting=f"{MEASURED}, with - without both losses",
        new=THOUGHT,
        old=Arm("without contrast", {"contrast": 0.0, "spread": 0.0}),
    ),
}
