"""Claims about captions: the demo's policy, which first learns by a few supervised steps to write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks.claims.policy_claim import Arm, PolicyClaim, Report, Start
from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from data_engine.sources.scenes import digits_scene
from data_engine.sources.synthesis import Split
from mmrl.core.config import load
from mmrl.demo.steps import CHECKPOINT
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from rewards.base import Rollout, Score, per_rollout
from rewards.parse.extract import answer_text

LAPTOP = Path(__file__).parents[3] / "configs" / "papers" / "mixed_r1" / "laptop.yaml"
FACT = r"a \d at the (?:top|bottom) (?:left|right)"
SENTENCE = re.compile(rf"A photograph with {FACT}(?:, {FACT})*\.")
SIDE = 192  # pixels


def captions(out: Path) -> Path:
    """Pictures with two digits, described by what is where."""
    place = out / "captions"
    if not (place / "manifest.json").exists():
        write_dataset([*_described("train", 1000), *_described("test", 100)], place, embed_media=True)
    return place


def _described(split: Split, n: int) -> Iterator[Sample]:
    """Those of two digits: about 60 tokens, where four digits take 105."""
    drawn = digits_scene(n=5 * n, ask="caption", split=split, side=SIDE)
    two = (sample for sample in drawn if len(sample.answer["chain"]["digits"]) == 2)
    for sample in islice(two, n):
        yield replace(sample, media=(replace(sample.media[0], width=SIDE, height=SIDE),))


def captioner(out: Path, steps: int, *changes: str) -> Path:
    """The demo's policy after so many supervised steps of 32 captions."""
    places = [f"model={CHECKPOINT}", f"data={captions(out)}", f"output={out / 'captioner'}"]
    return run(load(TrainConfig, LAPTOP, [*places, f"sft.max_steps={steps}", "grpo=null", *changes]))


@per_rollout
def sentence(rollout: Rollout) -> Score:
    """1 if the answer is a sentence like those of the captions, whatever it says of the picture."""
    return float(SENTENCE.fullmatch(answer_text(rollout.answered) or "") is not None)


SCORED = {"facts": {"fn": "reward_chain"}, "sentence": {"fn": "benchmarks.claims.about.captions:sentence"}}
CAPTIONS = Start(data=captions, model=captioner, scored=SCORED, lessons=150)
GRPO = {"per_device_train_batch_size": 32, "max_completion_length": 72}
FORM = {"format": {"fn": "think_format", "weight": 0.2}}


ARMS = {
    "BMAS": Arm(
        "bmas", {"rewards": {"text": {"fn": "bmas", "args": {"table": str(CHECKPOINT)}}, **FORM}, "grpo": GRPO}
    ),
    "BLEU": Arm("bleu", {"rewards": {"text": {"fn": "bleu"}, **FORM}, "grpo": GRPO}),
    "form": Arm("form", {"rewards": FORM, "form_only": ["caption"], "grpo": GRPO}),
}


def _claim(paper: str, claim: str, new: str, old: str, measured: str = "facts") -> PolicyClaim:
    """A reward beside that of form against another; all compare a caption with its reference, but form alone."""
    shares = {"facts": "which digits and which places are named", "sentence": "the share that is a sentence"}
    return PolicyClaim(
        paper=paper,
        claim=claim,
        setting=f"captions of two digits; {shares[measured]}, greedy, {new} - {old}",
        new=ARMS[new],
        old=ARMS[old],
        measure=lambda reports: mean_of(reports[0], measured),
        start=CAPTIONS,
        tasks=("caption",),
        steps=20,
    )


def mean_of(answers: Report, reward: str) -> float:
    """The mean of a reward on captions."""
    [mean] = [row["mean"] for row in answers["rows"] if (row["task"], row["reward"]) == ("caption", reward)]
    return mean


MIXED, BLEUBERI = "Mixed-R1 (2505.24164)", "BLEUBERI (2505.11080)"
TEACHES = "with references teaches what a caption says, which a reward of form does not"
CAPTION_CLAIMS: dict[str, PolicyClaim] = {
    "bmas": _claim(MIXED, f"BMAS {TEACHES}", "BMAS", "form"),
    "bleu": _claim(BLEUBERI, f"BLEU {TEACHES}", "BLEU", "form"),
    "words": _claim(
        BLEUBERI,
        "words compared leave more of what a caption says than letters, of which BMAS has a table here",
        "BLEU",
        "BMAS",
    ),
    "words_sentence": _claim(BLEUBERI, "the same of its sentences", "BLEU", "BMAS", "sentence"),
}
