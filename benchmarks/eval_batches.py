"""Greedy answers in batches of mixed media against one prompt at a time, by the demo's checkpoint.

    python -m benchmarks.eval_batches [--quick] [--json FILE]

Prompts with a picture, with two, with a video and with none, sorted by length and padded on the left as `mmrl eval run`
does it. Both sides must give the same answers before anything is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.rounds import compared, parser_of, report
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_count, digits_grounding, digits_video
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Sampling, batches
from mmrl.core.media.probe import probe
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.loading import load_checkpoint

CHECKPOINT = Path(__file__).parent.parent / "mmrl" / "demo" / "checkpoint"
BUDGET = VisionBudget(
    min_pixels=4096, max_pixels=4096, fps=2.0, min_frames=4, max_frames=8, total_pixels=32768
)  # that of the demo


def mixed(count: int) -> list[Sample]:
    """About `count` prompts, a quarter of each kind."""
    each = count // 4
    samples: list[Sample] = []
    for sample, two, clip in zip(
        digits_grounding(n=each), digits_count(n=each, seed=1), digits_video(n=each, seed=2), strict=True
    ):
        pictures = (sample.media[0], two.media[0])
        pair = replace(two, prompt=user_prompt("How many digits are there?", ["image", "image"]), media=pictures)
        text = replace(sample, prompt=user_prompt(f"Which digit comes first? {len(samples)}"), media=())
        samples += [sample, pair, clip, text]
    return [with_id(replace(sample, media=tuple(map(probe, sample.media)))) for sample in samples]


def answered(generator: LocalGenerator, draws: Sequence[Draw], size: int) -> dict[str, str]:
    """The answer to each sample, in batches of `size`."""
    plan = batches(draws, size, generator.cost)
    answers = [zip(batch, generator(batch), strict=True) for batch in plan]
    return {draw.sample.id: answer.response for batch in answers for draw, answer in batch}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the answers, time both ways in turn, print the table, write the rows."""
    options = parser_of(__doc__, "fewer prompts and rounds").parse_args(argv)
    count, rounds = (32, 2) if options.quick else (128, 3)
    model, processor = load_checkpoint(CHECKPOINT)
    apply_budget(processor, BUDGET)
    generator = LocalGenerator(model.eval(), processor, budget=BUDGET, sampling=Sampling(max_new_tokens=24))
    draws = [Draw(sample) for sample in islice(mixed(count), count)]
    alone = answered(generator, draws, 1)
    rows = []
    for size in (8, 32):
        together = answered(generator, draws, size)
        if different := [name for name, responses in alone.items() if together[name] != responses]:
            name = different[0]
            raise SystemExit(f"{len(different)} answers differ, such as {together[name]!r} and {alone[name]!r}")
        ours, peer = (partial(answered, generator, draws, count) for count in (size, 1))
        rows.append(compared(f"batches of {size}", ours, peer, len(draws), rounds, unit="answers/s"))
    report(rows, options.json)


if __name__ == "__main__":
    main()
