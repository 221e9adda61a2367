"""Claims about captions: the demo's policy, which first learns by a few supervised steps to write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.claims.policy_claim import Arm, PolicyClaim, Start, greedy
from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from data_engine.sources.scenes import digits_scene
from data_engine.sources.synthesis import Split
from mmrl.core.config import load
from mmrl.demo.steps import CHECKPOINT
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run

LAPTOP = Path(__file__).parents[2] / "configs" / "papers" / "mixed_r1" / "laptop.yaml"
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


def captioner(out: Path, steps: int) -> Path:
    """The demo's policy after so many supervised steps of 32 captions."""
    places = [f"model={CHECKPOINT}", f"data={captions(out)}", f"output={out / 'captioner'}"]
    return run(load(TrainConfig, LAPTOP, [*places, f"sft.max_steps={steps}", "grpo=null"]))


CAPTIONS = Start(data=captions, model=captioner, scored={"facts": {"fn": "reward_chain"}}, lessons=150)
GRPO = {"per_device_train_batch_size": 32, "max_completion_length": 72}
FORM = {"format": {"fn": "think_format", "weight": 0.2}}


def _content(paper: str, name: str, reward: dict[str, Any]) -> PolicyClaim:
    """A reward that compares a caption with the reference, beside that of form, against form alone."""
    return PolicyClaim(
        paper=paper,
        claim=f"{name} with references teaches what a caption says, which a reward of form does not",
        setting=f"captions of two digits; which digits and which places are named, greedy, {name} - form",
        new=Arm(name.lower(), {"rewards": {"text": reward, **FORM}, "grpo": GRPO}),
        old=Arm("form", {"rewards": FORM, "form_only": ["caption"], "grpo": GRPO}),
        measure=greedy,
        start=CAPTIONS,
        tasks=("caption",),
        steps=20,
    )


CAPTION_CLAIMS: dict[str, PolicyClaim] = {
    "bmas": _content("Mixed-R1 (2505.24164)", "BMAS", {"fn": "bmas", "args": {"table": str(CHECKPOINT)}}),
    "bleu": _content("BLEUBERI (2505.11080)", "BLEU", {"fn": "bleu"}),
}
