"""Answers to one question scored together, against each of them alone, by a small Qwen2.5-VL.

    python -m benchmarks.reward_head [--quick] [--json FILE]

The question shows a picture of 256 vision tokens. First all answers in one row, as `multi_response` reads them, against
a pass for each. A score depends on no later answer, so the first answer must get the same in both ways before anything
is timed. Then the five candidates for each token of an answer that a `reward_model` guides (`decode: deal`): their
prompt is encoded and read once, or for each of them. That is measured with the demo's policy as well, which sees a
picture of 64 pixels a side. Both ways must give the same answer. FLOPs are counted in one more call of each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import compared, parser_of, report
from data_engine.schema import Sample, user_prompt
from eval.answer.local import LocalGenerator
from eval.decode import GuidedGenerator
from eval.decode.config import LookaheadSearch
from eval.generation import Draw, Sampling
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace, VisionBudget, apply_budget
from mmrl.demo import steps as demo
from mmrl.model.loading import load_checkpoint
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.trainers.reward import with_head
from rewards import RewardSpec, Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint, loaded
from rewards.heads.multi_response_torch import add_separator, scored_together
from rewards.heads.reading_torch import padded
from rewards.heads.reward_model import squashed
from rewards.heads.reward_model_torch import rows_or_verdicts
from rewards.heads.token_scores_torch import asked, with_token_scores

SIDE = 448  # pixels: 16 x 16 vision tokens of 28 pixels
BUDGET = VisionBudget(min_pixels=SIDE * SIDE, max_pixels=SIDE * SIDE)
CANDIDATES, LENGTH = 5, 4  # for each token, and tokens of a guided answer
WORDS = ["the", "red", "square", "is", "left", "of", "the", "blue", "circle", "and", "above", "the", "green", "star"]


def policy() -> tuple[Any, Any]:
    """A model of random weights in which the language part costs most, as in those of real size; and its processor."""
    size = TinySize(hidden=256, layers=4, mlp=768, heads=4, vision_hidden=128, vocab=400)
    model, processor = tiny_model("qwen2_5_vl", WORDS, size=size)
    apply_budget(processor, BUDGET)
    return model, processor


def scorer() -> Checkpoint:
    """The head that scores all answers in one row."""
    made, processor = policy()
    model = with_token_scores(made.base_model, "multi_response").eval()
    add_separator(model, processor.tokenizer)
    return Checkpoint("a small Qwen2.5-VL", model, processor.tokenizer, processor)


def answers(count: int, words: int = 24) -> list[str]:
    """`count` different answers of so many words."""
    return [" ".join(WORDS[(place * (start + 1)) % len(WORDS)] for place in range(words)) for start in range(count)]


def together(model: Checkpoint, messages: list[dict[str, Any]], texts: Sequence[str]) -> float:
    """One pass; the score of the first answer."""
    return scored_together(model, asked(model, messages), texts)[0].item()


def one_by_one(model: Checkpoint, messages: list[dict[str, Any]], texts: Sequence[str]) -> float:
    """A pass for each answer; the score of the first."""
    first, *_ = [together(model, messages, [text]) for text in texts]
    return first


def guided(
    place: Path, made: Callable[[], tuple[Any, Any]], budget: VisionBudget, side: int
) -> tuple[Callable[[], str], Callable[[], str]]:
    """What gives an answer that a head guides token by token: with a prompt read once, and for each candidate.

    Policy and head are models that `made` gives. The question shows a picture of `side` pixels a side.
    """
    picture = place / "picture.png"
    Image.new("RGB", (side, side)).save(picture)
    shown = Media("image", path=str(picture), width=side, height=side)
    draw = Draw(Sample("asked", "", "open", user_prompt("What is left?", ["image"]), {}, (shown,)))
    model, processor = made()
    with_head(made()[0], processor).save_pretrained(place / "head")
    processor.save_pretrained(place / "head")
    generator = LocalGenerator(model, processor, budget=budget, sampling=Sampling(max_new_tokens=LENGTH))

    def by(reward: str) -> Callable[[], str]:
        spec = RewardSpec(fn=reward, args={"model": str(place / "head")})
        method = LookaheadSearch(method="deal", candidates=CANDIDATES, lookahead=0, scale=50.0, rewards={"head": spec})
        answered = GuidedGenerator(generator, method, CoordinateSpace.resized)
        return lambda: answered([draw])[0].response

    return by("reward_model"), by("benchmarks.reward_head:each_alone")


def each_alone(rollouts: Sequence[Rollout], *, model: str) -> list[Verdict]:
    """`reward_model` with a prompt that is encoded and read for each rollout."""
    head = loaded("score", model)
    found: list[Any] = [rows_or_verdicts([rollout], head)[0] for rollout in rollouts]
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    with torch.inference_mode():
        scores = head.model(**padded([found[i] for i in ready], head)).logits[:, 0].tolist() if ready else []
    for i, raw in zip(ready, scores, strict=True):
        found[i] = Verdict(squashed(raw))
    return found


def flops(work: Callable[[], Any]) -> int:
    """How many floating-point operations a call makes."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the scores, time both ways in turn, print the table, write the rows."""
    options = parser_of(__doc__, "four answers only, fewer rounds").parse_args(argv)
    rounds = 5 if options.quick else 15
    torch.manual_seed(0)
    model = scorer()
    content = [{"type": "image", "image": Image.new("RGB", (SIDE, SIDE))}, {"type": "text", "text": "What is left?"}]
    messages = [{"role": "user", "content": content}]
    rows = []
    for count in (4,) if options.quick else (2, 4, 8):
        texts = answers(count)
        ours, peer = partial(together, model, messages, texts), partial(one_by_one, model, messages, texts)
        if abs(ours() - peer()) > 1e-5:
            raise SystemExit(f"the first of {count} answers scores {ours():.6f} together and {peer():.6f} alone")
        row = compared(f"{count} answers", ours, peer, count, rounds, unit="answers/s")
        rows.append(row | {"flops": flops(ours) / flops(peer), "time": 1 / row["ratio"]})
    small = partial(load_checkpoint, demo.CHECKPOINT), demo.training(Path(), Path(), None).vision, 64
    for case, models in (("256 vision tokens", (policy, BUDGET, SIDE)), ("the demo's policy", small)):
        with tempfile.TemporaryDirectory() as place:
            ours, peer = guided(Path(place), *models)
            if ours() != peer():
                raise SystemExit(f"guided by the same head one answer is {ours()!r} and the other {peer()!r}")
            row = compared(f"deal, {case}", ours, peer, LENGTH, rounds, unit="tokens/s")
            rows.append(row | {"flops": flops(ours) / flops(peer), "time": 1 / row["ratio"]})
    report(rows, options.json)
    for row in rows:
        print(f"{row['case']}: {row['time']:.2f} of the time, {row['flops']:.2f} of the FLOPs of each alone")


if __name__ == "__main__":
    main()
