"""One GRPO step, mmrl against stock TRL: same weights, data, seed, sampled completions and rewards.

    python -m benchmarks.grpo_step [--quick] [--json FILE]

Each side runs in a process of its own, in turn, several times; medians and ranges are over all steps but the first of
each. Memory is the peak resident size above what was resident before training. Losses must agree to 1e-4, the norms of
the gradients to one part in a thousand. FLOPs are counted in one more step; the ideal reads every prompt once to answer
and once to learn: 4 (prompt + G completions) forwards, a backward counting as two.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import parser_of, report


@dataclass(frozen=True, slots=True)
class Case:
    """Prompts in a step, completions of a prompt, vision tokens of a prompt (0: text only)."""

    group: int
    vision_tokens: int
    prompts: int = 4
    new_tokens: int = 32

    @property
    def name(self) -> str:
        """The name of the case in the table."""
        kind = f"{self.vision_tokens} vision tokens" if self.vision_tokens else "text only"
        return f"G={self.group}, {kind}"


QUICK = [Case(8, 256), Case(8, 0)]
FULL = [Case(group, tokens) for group in (4, 8, 16) for tokens in (16, 64, 256)] + [Case(8, 0)]
STEPS = 3  # the first warms up; one more counts FLOPs
PARTS = ("processing", "rollout", "scoring", "backward")


def main() -> None:
    """Run the cases and print the table."""
    parser = parser_of(__doc__, "the promised cases only")
    parser.add_argument("--repeats", type=int, help="runs of each side and case: 3, or 2 with --quick")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, case = arguments.worker
        made = (ours, ideal_flops) if side == "ours" else (peer, None)
        print(json.dumps(measured(*made, Case(**json.loads(case)))))
        return
    repeats = arguments.repeats or (2 if arguments.quick else 3)
    program, cases = "benchmarks.grpo_step", QUICK if arguments.quick else FULL
    rows = [row for case in cases for row in compared(program, case, repeats)]
    report(rows, arguments.json, peer="TRL", ratio="ratio", number=".3g")


def compared(program: str, case: Case, repeats: int) -> list[dict[str, Any]]:
    """The rows of one case of a program: time of a step and of its parts, peak memory, FLOPs."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for side, done in runs.items():
            done.append(in_process(program, side, case))
    for ours, peer in zip(runs["ours"], runs["peer"], strict=True):
        pairs = {name: list(zip(ours[name], peer[name], strict=True)) for name in ("rewards", "losses", "norms")}
        rewards, losses = (max(abs(a - b) for a, b in pairs[name]) for name in ("rewards", "losses"))
        norms = max(abs(a / b - 1) for a, b in pairs["norms"])
        if rewards > 1e-6 or losses > 1e-4 or norms > 1e-3:
            raise SystemExit(
                f"{case.name}: rewards differ by {rewards:.1e}, losses by {losses:.1e}, gradient norms by {norms:.1e}"
            )
    rows = []
    ideal = runs["ours"][0]["ideal"]
    for measure, unit in (
        ("seconds", "s/step"),
        ("megabytes", "MB"),
        ("flops", "FLOPs / ideal" if ideal else "FLOPs"),
        *((part, part) for part in PARTS),
    ):
        scale, unit = (ideal or 1, unit) if measure == "flops" else (1, f"s/step {unit}" if measure in PARTS else unit)
        values = [[value / scale for run in done for value in run[measure]] for done in runs.values()]
        ours, peer = map(statistics.median, values)
        row = {"case": case.name, "ours": ours, "peer": peer, "ratio": ours / peer if peer else float("nan")}
        ranges = [[min(side), max(side)] for side in values]
        rows.append({**row, "unit": unit, "n": len(values[0]), "ranges": ranges})
    seconds = rows[0]
    print(f"{case.name}: {seconds['ours']:.3g} against {seconds['peer']:.3g} s/step", file=sys.stderr, flush=True)
    return rows


def in_process(program: str, side: str, case: Case) -> dict[str, Any]:
    """The measurement of one side, from a fresh process."""
    command = [sys.executable, "-m", program, "--worker", side, json.dumps(asdict(case))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{side} failed on {case.name}:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def measured(
    made: Callable[[Any, Path], Any], ideal_of: Callable[[Any, Any], float] | None, case: Case
) -> dict[str, Any]:
    """Train STEPS steps; what each after the first took, the peak memory, the rewards and losses."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = made(case, Path(directory))
        ideal = ideal_of(trainer, case) if ideal_of else 0
        parts = clocks(trainer)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times, marks = [], [time.perf_counter()]
        step, counted = trainer.training_step, []

        def timed(*args: Any, **kwargs: Any) -> Any:
            for spent in parts.values():
                spent.append(0.0)
            if len(marks) < STEPS + 1:
                result = step(*args, **kwargs)
            else:
                with FlopCounterMode(display=False) as counter:
                    result = step(*args, **kwargs)
                counted.append(counter.get_total_flops())
            marks.append(time.perf_counter())
            return result

        trainer.training_step = timed
        trainer.train()
        times = [after - start for start, after in itertools.pairwise(marks)]
        logged = [line for line in trainer.state.log_history if "loss" in line]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": times[1:STEPS],
        "flops": counted,
        "ideal": ideal,
        **{name: spent[1:STEPS] for name, spent in parts.items()},
        "megabytes": [(peak - before) / 1024],
        "rewards": [line["reward"] for line in logged],
        "losses": [line["loss"] for line in logged],
        "norms": [line["grad_norm"] for line in logged],
    }


def clocks(trainer: Any) -> dict[str, list[float]]:
    """Seconds that each step spends in each of PARTS, filled as it trains; a part inside another counts for itself."""
    spent: dict[str, list[float]] = {name: [] for name in PARTS}
    open_parts: list[list[float]] = []  # the time that parts within took

    def clocked(owner: Any, method: str, name: str) -> None:
        function = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            open_parts.append([0.0])
            try:
                return function(*args, **kwargs)
            finally:
                took, (within,) = time.perf_counter() - start, open_parts.pop()
                spent[name][-1] += took - within
                if open_parts:
                    open_parts[-1][0] += took

        setattr(owner, method, timed)

    clocked(trainer.processing_class.image_processor, "preprocess", "processing")
    clocked(trainer.processing_class, "apply_chat_template", "processing")
    clocked(trainer, "_generate", "rollout")
    clocked(trainer, "_compute_loss", "scoring")
    clocked(trainer.accelerator, "backward", "backward")
    return spent


def ideal_flops(trainer: Any, case: Case) -> float:
    """The FLOPs of a step that reads each prompt once to answer and once to learn."""
    row = trainer.train_dataset[0]
    encoded = trainer.generation.encode(row)

    def forward(more: int) -> int:
        ids = torch.tensor([[*encoded.input_ids, *[5] * more]])
        media = trainer.media([encoded], ids, more)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            trainer.model(input_ids=ids, attention_mask=torch.ones_like(ids), **media, logits_to_keep=more + 1)
        return counter.get_total_flops()

    prompt = forward(0)
    completion = forward(case.new_tokens) - prompt
    return 4.0 * case.prompts * (prompt + case.group * completion)


def ours(case: Case, out: Path, size: Any = None, **changes: Any) -> Any:
    """mmrl's trainer on the case; `changes` are settings of another run than the benchmark's."""
    from mmrl.grpo.trainer import MultimodalGRPOTrainer
    from mmrl.trainers.dataset import as_dataset
    from rewards import Suite

    model, processor, budget = policy(case, size)
    return MultimodalGRPOTrainer(
        model,
        processing_class=processor,
        rewards=Suite({"fixed": {"fn": "benchmarks.grpo_step:fixed"}}),
        args=settings(case, out, **changes),
        train_dataset=as_dataset(samples(case, out)),
        budget=budget,
        advantages="grpo",
    )


def samples(case: Case, out: Path) -> list[Any]:
    """The prompts of the case as samples; their pictures are written to `out`."""
    from data_engine.schema import Sample, user_prompt
    from mmrl.core.media.item import Media
    from mmrl.core.media.probe import probe

    made = []
    for number, question in enumerate(questions(case)):
        media: tuple[Media, ...] = ()
        if case.vision_tokens:
            place = out / f"{number}.png"
            picture(case, number).save(place)
            media = (probe(str(place)),)
        prompt = user_prompt(question, [item.kind for item in media])
        made.append(Sample(str(number), "benchmark", "text", prompt, {"text": [""]}, media))
    return made


def peer(case: Case, out: Path) -> Any:
    """TRL's trainer on the case; only its random numbers are ours, so that both sides draw the same completions."""
    from transformers import SuppressTokensLogitsProcessor

    from mmrl.model.sampling import RowSampler, vision_token_ids

    model, processor, _ = policy(case)
    args = settings(case, out)
    banned = SuppressTokensLogitsProcessor(vision_token_ids(model.config, processor))
    generate, step = model.generate, itertools.count()

    def drawing(**inputs: Any) -> Any:
        now, size = next(step), range(case.prompts * case.group)
        keys = [(args.seed, now, 0, str(i // case.group), i % case.group) for i in size]
        return generate(**inputs, logits_processor=[banned, RowSampler(keys, max_new_tokens=case.new_tokens)])

    return stock(case, model, processor, args, drawing, lambda completions, **_: steps_of(len(completions)))


def stock(case: Case, model: Any, processor: Any, args: Any, drawing: Any, reward: Any, **more: Any) -> Any:
    """TRL's trainer on the case, whose model generates by `drawing`."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    model.generate = drawing
    data = rows(case)
    return GRPOTrainer(model, [reward], args=args, train_dataset=data, processing_class=processor, **more)


def rows(case: Case) -> Any:
    """The prompts of the case as TRL's users give them."""
    from datasets import Dataset, Features, Image, List, Value

    columns: dict[str, list[Any]] = {"prompt": [[{"role": "user", "content": text}] for text in questions(case)]}
    features: dict[str, Any] = {"prompt": List({"role": Value("string"), "content": Value("string")})}
    if case.vision_tokens:
        columns["image"] = [picture(case, number) for number in range(case.prompts)]
        features["image"] = Image()
    return Dataset.from_dict(columns, features=Features(features))


def policy(case: Case, size: Any = None) -> tuple[Any, Any, Any]:
    """A `small_model` that never answers early, its processor and the vision budget of the case."""
    model, processor, budget = small_model(case, questions(case), size)
    model.generate = functools.partial(model.generate, min_new_tokens=case.new_tokens)
    return model, processor, budget


def small_model(case: Case, texts: list[str], size: Any = None) -> tuple[Any, Any, Any]:
    """A small random Qwen2.5-VL whose tokenizer learns `texts`, its processor and the vision budget of the case."""
    from mmrl.core.vision import VisionBudget, apply_budget
    from mmrl.model.tiny_twins import TinySize, tiny_model

    size = size or TinySize(hidden=256, layers=8, heads=8, mlp=768, vision_hidden=128, vision_layers=6, vision_heads=4)
    model, processor = tiny_model("qwen2_5_vl", texts, size=size)
    pixels = max(case.vision_tokens, 4) * 28 * 28
    budget = VisionBudget(min_pixels=4 * 28 * 28, max_pixels=pixels, total_pixels=64 * pixels)
    apply_budget(processor, budget)
    return model, processor, budget


def settings(case: Case, out: Path, **changes: Any) -> Any:
    """TRL's settings, the same for both sides: one optimizer step a generation."""
    from trl.trainer.grpo_config import GRPOConfig

    usual: dict[str, Any] = {"bf16": False, "use_cpu": True, "max_steps": STEPS + 1}
    usual["max_completion_length"] = case.new_tokens
    return GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=case.prompts * case.group,
        num_generations=case.group,
        learning_rate=1e-5,
        shuffle_dataset=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        gradient_checkpointing=False,
        disable_tqdm=True,
        **usual | changes,
    )


def questions(case: Case) -> list[str]:
    """Questions of about twenty tokens."""
    words = ["which", "of", "these", "pictures", "shows", "the", "number", "that", "comes", "next"]
    return [" ".join(words[(number + i) % len(words)] for i in range(20)) for number in range(case.prompts)]


def picture(case: Case, number: int) -> Any:
    """A real photograph that becomes exactly the vision tokens of the case."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    side = round(case.vision_tokens**0.5) * 28
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    return photograph.crop((number * 20, 0, number * 20 + 400, 400)).resize((side, side))


def fixed(rollouts: Any) -> list[float]:
    """A reward that differs within a group though the completions do not."""
    return steps_of(len(rollouts))


def steps_of(count: int) -> list[float]:
    """0, 0.1, 0.2 and so on, in turn."""
    return [(i % 7) / 10 for i in range(count)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
