"""Claims about decoding that a student of PSRD's self-questions guides, against the questions themselves.

The policy is the demo's. Its own answers to training questions are the lessons: where a sentence begins, it is asked
whether it sees what it says, as in decoding, and a head learns what it answered.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.claims.about.heads import PAIRS, Numbers, OwnAnswersClaim
from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.config import EvalConfig
from eval.decode.config import PhaseWise
from eval.decode.policy import SelfGuide
from eval.decode.search import BREAKS
from eval.generation import Draw, Sampling
from eval.records import ALL, Record
from eval.run import run as answered
from mmrl.core.config import load
from mmrl.demo import steps as demo
from mmrl.model.loading import load_checkpoint
from mmrl.train.config import TrainConfig
from mmrl.train.run_steps import write_steps
from mmrl.train.stages import run
from rewards import Rollout, Suite, Verdict
from rewards.base import Span

CONFIGS = Path(__file__).parents[3] / "configs" / "eval"
ANSWERS = 4  # to each training question, which the student learns from
ONSET = PhaseWise(method="psrd").onset


@dataclass(frozen=True, kw_only=True)
class GuideClaim(OwnAnswersClaim):
    """PSRD at its defaults, guided by self-questions and by a student of them: what both reach and read."""

    task: str = ALL
    lessons: int = 60
    pool: int = 50
    test: int = 50

    def measured(self, base: TrainConfig, start: Path, place: Path, seed: int) -> Numbers:
        """Of either guide the mean total, the tokens that it reads for an answer, and those that are read in all."""
        reward = {**PAIRS, "learning_rate": 5e-4, "max_steps": self.lessons}
        blocks = {"grpo": None, "rewards": {}, "reward": reward, "head": {"kind": "distilled"}, "seed": seed}
        blocks |= {"data": str(self._labels(base, start)), "output": str(place / "student")}
        head = run(TrainConfig.model_validate(base.model_dump() | blocks))
        numbers: Numbers = {}
        for guide, named in {"questions": [], "student": [f"decode.head={head}"]}.items():
            answers = records("psrd.yaml", base, place / guide, [f"sampling.seed={seed}", *named])
            numbers[guide] = fmean(record.total or 0.0 for record in answers)
            numbers[f"{guide} read"] = fmean(record.spent["read_to_score"] for record in answers)
            numbers[f"{guide} prefill"] = fmean(record.spent["prefill"] for record in answers)
        return numbers | {"third": numbers["questions read"] / 3}

    def _labels(self, base: TrainConfig, start: Path) -> Path:
        """The policy's answers to the training questions, with what it says of the onsets of their sentences."""
        labels, drawn = start / "labels", ["sampling.do_sample=true", f"sampling.samples={ANSWERS}"]
        if not (labels / "manifest.json").exists():
            records("demo.yaml", base, start / "answers", ["data.split=train", "sampling.temperature=0.7", *drawn])
            write_steps(start / "answers", Suite({"seen": {"fn": f"{__name__}:seen"}}), labels)
        return labels


def records(config: str, base: TrainConfig, out: Path, changes: Sequence[str]) -> list[Record]:
    """What the policy of `base` answers to its questions, as a config of an evaluation says."""
    places = [f"model={base.model}", f"data.path={base.data}", f"out={out}"]
    return answered(load(EvalConfig, CONFIGS / config, [*places, *changes]))


def seen(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """How far the demo's policy says that it sees what the sentences of its answers begin with."""
    guide, generator = _asked()
    verdicts = []
    for rollout in rollouts:
        shown = Draw(Sample("", "", rollout.task or "", rollout.prompt, {}, tuple(rollout.media)))
        places = list(onsets(rollout.completion, generator.processor.tokenizer))
        asked = guide.questions(shown, [rollout.completion[:stop] for _, stop in places])
        scores = guide.scores(generator.next_log_probs(asked)) if asked else []
        spans = [Span(*place, score or 0.0) for place, score in zip(places, scores, strict=True)]
        verdicts.append(Verdict(0.5, spans=tuple(spans)))
    return verdicts


def onsets(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    """Where the first tokens of each sentence stand."""
    for phase in re.finditer(f"[^{BREAKS}]+", text):
        first = tokenizer(phase[0], add_special_tokens=False)["input_ids"][:ONSET]
        if phase[0].strip():
            yield phase.start(), phase.start() + len(tokenizer.decode(first))


@functools.cache
def _asked() -> tuple[SelfGuide, LocalGenerator]:
    model, processor = load_checkpoint(demo.CHECKPOINT)
    budget = demo.training(Path(), Path(), None).vision
    generator = LocalGenerator(model, processor, budget=budget, sampling=Sampling())
    return SelfGuide(generator), generator


def _guide(claim: str, setting: str, after: str, before: str) -> GuideClaim:
    return GuideClaim(
        paper="PSRD (2604.17982)",
        claim=claim,
        setting=f"the demo's six tasks, 50 questions each; {setting}",
        after=after,
        before=before,
    )


DECODING: dict[str, OwnAnswersClaim] = {
    "psrd_total": _guide(
        "a student of the self-questions guides better than they do",
        "accuracy and form, student - self-questions",
        "student",
        "questions",
    ),
    "psrd_read": _guide(
        "and reads less than a third of their tokens",
        "tokens that a guide reads for an answer, a third of the self-questions' - the student's",
        "third",
        "student read",
    ),
}
