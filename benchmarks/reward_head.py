"""All answers to a question scored in one pass, against a pass for each of them, by a small Qwen2.5-VL.

    python -m benchmarks.reward_head [--quick] [--json FILE]

The question shows a picture of 256 vision tokens. A score depends on no later answer, so the first answer must get the
same in both ways before anything is timed. FLOPs are counted in one more call of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import compared, parser_of, report
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.tiny_twins import TinySize, tiny_model
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.multi_response_torch import add_separator, scored_together
from rewards.heads.token_scores_torch import with_token_scores

SIDE = 448  # pixels: 16 x 16 vision tokens of 28 pixels
WORDS = ["the", "red", "square", "is", "left", "of", "the", "blue", "circle", "and", "above", "the", "green", "star"]


def scorer() -> Checkpoint:
    """A model of random weights in which the language part costs most, as in those of real size."""
    size = TinySize(hidden=256, layers=4, mlp=768, heads=4, vision_hidden=128, vocab=400)
    policy, processor = tiny_model("qwen2_5_vl", WORDS, size=size)
    apply_budget(processor, VisionBudget(min_pixels=SIDE * SIDE, max_pixels=SIDE * SIDE))
    model = with_token_scores(policy.base_model, "multi_response").eval()
    add_separator(model, processor.tokenizer)
    return Checkpoint("a small Qwen2.5-VL", model, processor.tokenizer, processor)


def answers(count: int, words: int = 24) -> list[str]:
    """`count` different answers of so many words."""
    return [" ".join(WORDS[(place * (start + 1)) % len(WORDS)] for place in range(words)) for start in range(count)]


def together(model: Checkpoint, messages: list[dict[str, Any]], texts: Sequence[str]) -> float:
    """One pass; the score of the first answer."""
    return scored_together(model, messages, texts)[0].item()


def one_by_one(model: Checkpoint, messages: list[dict[str, Any]], texts: Sequence[str]) -> float:
    """A pass for each answer; the score of the first."""
    first, *_ = [scored_together(model, messages, [text])[0].item() for text in texts]
    return first


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
    report(rows, options.json)
    for row in rows:
        print(f"{row['case']}: {row['time']:.2f} of the time, {row['flops']:.2f} of the FLOPs of a pass for each")


if __name__ == "__main__":
    main()
