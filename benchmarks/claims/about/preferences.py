"""Claims about forms of the stages `sft`, `dpo` and `grpo` against their plain forms, and about a student of a judge.

The policy is the demo's. Before DPO it learns right answers for some steps, and then draws the pairs itself: pairs of a
weaker policy harm. All seeds of a claim begin with the same policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.claims.about.heads import LESSONS, PAIRS, Numbers, OwnAnswersClaim, rule
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.trainers.preferences import GOAL
from rewards.prompt_form import PromptForm

RULES = {"count": "number_match", "yesno": "yesno_match"}  # of a task
SHARE = 4  # the student's teacher is asked about one group in so many
Blocks = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FormClaim(OwnAnswersClaim):
    """A form of a stage (`after`) against the plain one (`before`), both names of `FORMS`."""

    lessons: int = 60
    steps: int = 20
    test: int = 200

    @property
    def experiment(self) -> str:
        """The two forms."""
        return f"{self.after}-{self.before}"

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """The rule's score after either form."""
        return {form: self._score(form, base, start, seed) for form in (self.before, self.after)}

    def _score(self, form: str, base: TrainConfig, start: Path, seed: int) -> float:
        final = self._trained(form, base, start, seed)
        asked = PromptForm(system=GOAL.format(score=1)) if form == "relabelled" else None
        return rule(base.model_copy(update={"prompt": asked}), final, final.parent)

    def _trained(self, form: str, base: TrainConfig, start: Path, seed: int) -> Path:
        """The policy after a form by a seed, which claims share."""
        place = start / f"{form}-{self.lessons}-{self.steps}-{seed}"
        made = FORMS[form](self, base, start, lambda other: str(self._trained(other, base, start, seed)))
        values = base.model_dump() | {"grpo": None, "output": str(place), "seed": seed}
        return run(TrainConfig.model_validate(values | made))


def _dpo(claim: FormClaim, base: TrainConfig, start: Path, **preferences: Any) -> Blocks:
    dpo = {**PAIRS, "learning_rate": 1e-4, "precompute_ref_log_probs": True, "max_steps": claim.lessons}
    pairs = {"path": str(claim.pairs(base, start, "train"))}
    return {"dpo": dpo, "rewards": {}, "preferences": pairs | preferences}


def _sft(claim: FormClaim, shaping: Blocks | None) -> Blocks:
    return {"sft": {**LESSONS, "max_steps": claim.lessons}, "rewards": {}, "sft_shaping": shaping}


def _grpo(claim: FormClaim, base: TrainConfig, **changes: Any) -> Blocks:
    return {"grpo": claim.grpo(base), "advantages": {"name": "grpo"}, **changes}


def _rto(claim: FormClaim, base: TrainConfig, learned: str) -> Blocks:
    credit = {"log_ratio": {"policy": learned, "reference": base.model}}
    return _grpo(claim, base, advantages={"name": "grpo", "tokens": credit})


# Each of (claim, the training, the folder of the first policy, how to get the policy after another form).
FORMS: dict[str, Callable[[FormClaim, TrainConfig, Path, Callable[[str], str]], Blocks]] = {
    "dpo": lambda claim, base, start, made: _dpo(claim, base, start),
    "t_reg": lambda claim, base, start, made: _dpo(claim, base, start, token_reward={}),
    "relabelled": lambda claim, base, start, made: _dpo(claim, base, start, relabel=True),
    "grpo": lambda claim, base, start, made: _grpo(claim, base),
    "rto": lambda claim, base, start, made: _rto(claim, base, made("dpo")),
    "sft": lambda claim, base, start, made: _sft(claim, None),
    "shaped": lambda claim, base, start, made: _sft(claim, {}),
    "sft_grpo": lambda claim, base, start, made: _grpo(claim, base, model=made("sft")),
    "shaped_grpo": lambda claim, base, start, made: _grpo(claim, base, model=made("shaped")),
}


@dataclass(frozen=True, kw_only=True)
class StudentClaim(OwnAnswersClaim):
    """GRPO with a judge, here the rule itself, whose verdicts are counted: asked always, or by a student."""

    test: int = 200

    def quick(self) -> Self:
        """The same with few steps and questions."""
        return replace(super().quick(), steps=SHARE)

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """The rule's score of each way, the calls of the judge, and the rise of the score for 1,000 of them."""
        judge, batch = {"fn": RULES[self.task]}, self.grpo(base)["per_device_train_batch_size"]
        labels, few = place / "labels", self.steps // SHARE
        args = {"teacher": judge, "model": base.model, "labels": str(labels), "share": 1 / SHARE, "batch": 32}
        scores = {
            "always": self.taught(base, judge, place / "always", seed),
            "student": self.taught(base, {"fn": "student", "args": args}, place / "student", seed),
            "stopped": self.taught(base, judge, place / "stopped", seed, max_steps=few),
            "fewer": self.taught(base, judge, place / "fewer", seed, per_device_train_batch_size=batch // SHARE),
        }
        asked = len((labels / "rank-0.jsonl").read_text().splitlines())
        calls = {
            "always": self.steps * batch,
            "student": asked,
            "stopped": few * batch,
            "fewer": self.steps * batch // SHARE,
        }
        before = rule(base, Path(base.model), start)
        rises = {f"{way} per 1,000": 1000 * (score - before) / calls[way] for way, score in scores.items()}
        return scores | rises | {f"{way} calls": count for way, count in calls.items()}


def _form(paper: str, claim: str, setting: str, after: str, before: str, **changes: Any) -> FormClaim:
    return FormClaim(paper=paper, claim=claim, setting=setting, after=after, before=before, **changes)


def _student(claim: str, setting: str, after: str, before: str) -> StudentClaim:
    return StudentClaim(
        paper="ONI (2410.23022)",
        claim=claim,
        setting=f"counting digits, 40 steps of GRPO, the rule as a judge; {setting}",
        after=after,
        before=before,
    )


COUNTS = "counting digits; right greedy answers"
PREFERENCES: dict[str, OwnAnswersClaim] = {
    "t_reg": _form(
        "T-REG (2412.02685)",
        "rewards of tokens, which the model gives itself, teach more than DPO alone",
        f"{COUNTS} after 60 steps on the policy's own pairs, T-REG - DPO",
        "t_reg",
        "dpo",
        warm=8,
    ),
    "relabelled": _form(
        "reward-augmented data (2410.08067)",
        "pairs asked for the score of either side teach more than DPO on the pairs alone",
        f"{COUNTS} after 60 steps on the policy's own pairs, relabelled and asked for the highest score - DPO",
        "relabelled",
        "dpo",
        warm=8,
    ),
    "rto": _form(
        "RTO (2404.18922)",
        "what DPO finds likelier, as a reward of each token, teaches more than the reward of the answer alone",
        f"{COUNTS} after 20 steps, RTO - GRPO",
        "rto",
        "grpo",
        warm=8,
    ),
    "shaped": _form(
        "Diversity or Precision (2512.22955)",
        "a cross-entropy that makes a model surer (beta -0.25) raises the score of supervised training",
        f"{COUNTS} after 60 steps, shaped - plain",
        "shaped",
        "sft",
    ),
    "shaped_grpo": _form(
        "Diversity or Precision (2512.22955)",
        "GRPO reaches more behind it than behind plain supervised training",
        f"{COUNTS} after 60 steps and 20 of GRPO, shaped - plain",
        "shaped_grpo",
        "sft_grpo",
    ),
    "student_steps": _student(
        "a student of a quarter of the verdicts teaches more than all of them, at equal steps",
        "right greedy answers, student - asked always",
        "student",
        "always",
    ),
    "student_calls": _student(
        "it teaches more than a judge asked always, stopped at as many verdicts",
        "right greedy answers, student - asked always for 10 steps",
        "student",
        "stopped",
    ),
    "student_rollouts": _student(
        "it teaches more than a quarter of the rollouts with the judge's own verdicts, in as many steps",
        "right greedy answers, student - asked always about 32 rollouts instead of 128",
        "student",
        "fewer",
    ),
    "student_rise": _student(
        "the score rises more for 1,000 calls of the judge than if it is asked always",
        "rise of right greedy answers for 1,000 calls, student - asked always",
        "student per 1,000",
        "always per 1,000",
    ),
}
