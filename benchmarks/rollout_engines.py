"""Who draws the completions: vLLM's server against the policy in this process, new weights, and drawing ahead.

    python -m benchmarks.rollout_engines --python VLLM_PYTHON [--quick] [--json FILE]

`draw`: 16 prompts, 8 completions of 32 tokens each, by vLLM and by the local engine with shared prompts; wall seconds,
in turn, medians over the rounds. `push`: seconds until all weights are in the running server and its caches are empty.
`ahead`: seconds of a GRPO step that draws for the next step meanwhile, against one that draws and then learns. Server
and trainer have one thread each.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.grpo_step import Case, picture, policy, questions, settings
from benchmarks.rounds import parser_of, report
from mmrl.engine.asking import Drawing, Question
from mmrl.engine.features import FeatureWriter
from mmrl.engine.remote import VllmEngine
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from mmrl.grpo.shared_prefix.prefix_cache import generated
from mmrl.model.encoding import encode
from mmrl.model.inputs import media_inputs
from mmrl.model.loading import load_checkpoint
from mmrl.model.sampling import RowSampler, vision_token_ids
from mmrl.model.tiny_twins import TinySize

PROMPTS, GROUP, NEW = 16, 8, 32
SIZES = {
    "2 M": TinySize(hidden=192, layers=4, heads=6, mlp=576, vision_hidden=64),
    "160 M": TinySize(hidden=896, layers=14, heads=14, mlp=2688, vision_hidden=256, vision_layers=4, vision_heads=4),
}


def main() -> None:
    """Measure and print the table."""
    parser = parser_of(__doc__, "the smaller model only")
    parser.add_argument("--python", default=os.environ.get("MMRL_VLLM_PYTHON"), help="the interpreter that has vLLM")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.python:
        raise SystemExit("no interpreter with vLLM: --python, or MMRL_VLLM_PYTHON")
    torch.set_num_threads(1)
    rows = []
    for name in ["2 M"] if arguments.quick else SIZES:
        for vision in (16, 256):
            rows += drawn(name, Case(GROUP, vision, PROMPTS, NEW), arguments)
    rows.append(ahead(arguments))
    report(rows, arguments.json, peer="other", ratio="ratio", number=".3g")


def drawn(name: str, case: Case, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one model and kind of prompt."""
    with tempfile.TemporaryDirectory() as directory:
        model, processor, engine, budget = world(Path(directory), case, SIZES[name], arguments.python)
        samples = sampled(case, Path(directory))
        rows = [encode(processor, sample.prompt, sample.media, budget) for sample in samples]
        writer, banned = FeatureWriter(model.config, processor), vision_token_ids(model.config, processor)
        repeated = [row for row in rows for _ in range(GROUP)]
        pad = processor.tokenizer.pad_token_id

        def served() -> None:
            engine.client.post("/reset_prefix_cache")
            asked = [Question(row.input_ids, writer(row), GROUP, 1) for row in rows]
            answers = engine.completions(asked, Drawing(NEW, banned=tuple(banned)))
            assert all(len(answer.ids) == NEW for group in answers for answer in group)

        def local() -> None:
            sampler = RowSampler([(i,) for i in range(len(repeated))], max_new_tokens=NEW)
            with torch.no_grad():
                generated(
                    model,
                    repeated,
                    lambda some, ids: media_inputs(some, ids, model),
                    pad=pad,
                    device="cpu",
                    shared=True,
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                    do_sample=False,
                    suppress_tokens=banned,
                    logits_processor=[sampler],
                    disable_compile=True,
                )

        pushes = [seconds_of(lambda step=step: engine.push(model, str(step))) for step in range(1, 6)]
        sides = in_turn((served, local), arguments.rounds)
        engine.close()
    size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M, prompts of {len(rows[0].input_ids)}"
    push = {"case": f"push, {size}", "ours": statistics.median(pushes), "peer": 0.3, "unit": "s (promised 0.3)"}
    push |= {"ratio": push["ours"] / 0.3, "n": len(pushes), "ranges": [[min(pushes), max(pushes)], [0.3, 0.3]]}
    return [row_of(f"draw by vLLM against local, {size}", sides, "s"), push]


def ahead(arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of a step that draws ahead against one that does not."""
    sides = tuple([step_seconds(kind, arguments) for kind in (1, 0)])
    return row_of("GRPO step, ahead against serial, 2 M", sides, "s a step")


def step_seconds(ahead: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds of the optimizer steps of a training, without the first two."""
    from mmrl.grpo.trainer import MultimodalGRPOTrainer
    from mmrl.trainers.dataset import as_dataset
    from rewards import Suite

    steps, case = 4 + 2 * arguments.rounds, Case(GROUP, 256, 8, 48)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        model, processor, _, budget = world(place, case, SIZES["2 M"], None)
        args = settings(case, place / "run")
        args.max_steps = steps
        trainer = MultimodalGRPOTrainer(
            model,
            processing_class=processor,
            rewards=Suite({"fixed": {"fn": "benchmarks.grpo_step:fixed"}}),
            args=args,
            train_dataset=as_dataset(sampled(case, place)),
            budget=budget,
            advantages="grpo",
            engine=settings_of(arguments.python),
            ahead=ahead,
            importance_cap=2.0,
        )
        step, marks = trainer.training_step, [time.perf_counter()]

        def timed(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            marks.append(time.perf_counter())
            return result

        trainer.training_step = timed
        trainer.train()
    return [after - before for before, after in itertools.pairwise(marks[2:])]


def world(place: Path, case: Case, size: TinySize, python: str | None) -> tuple[Any, Any, Any, Any]:
    """A random model of a size, its processor, vLLM that serves it (with an interpreter for it), the vision budget."""
    from mmrl.core.vision import apply_budget

    made, processor, budget = policy(case, size)
    for part in (made, processor):
        part.save_pretrained(place / "model")
    model, processor = load_checkpoint(place / "model", dtype="float32")
    apply_budget(processor, budget)
    if python is None:
        return model, processor, None, budget
    vocabulary = model.get_output_embeddings().weight.shape[0]
    served = Served(place / "model", model.config.model_type, vocabulary, dtype="float32")
    engine = VllmEngine(settings_of(python), served, place / "engine.log", cpu=True)
    engine.push(model, "0")
    return model, processor, engine, budget


def settings_of(python: str) -> VllmSettings:
    """The settings of a server with one thread."""
    arguments = {"max_model_len": 1024, "max_num_seqs": PROMPTS * GROUP}
    return VllmSettings(python=python, arguments=arguments, environment={"OMP_NUM_THREADS": "1"})


def sampled(case: Case, place: Path) -> list[Any]:
    """The questions of a case about photographs."""
    from data_engine.schema import Sample, user_prompt
    from mmrl.core.media.probe import probe

    samples = []
    for number, question in enumerate(questions(case)):
        picture(case, number).save(place / f"{number}.png")
        media = (probe(str(place / f"{number}.png")),)
        samples.append(
            Sample(str(number), "benchmark", "text", user_prompt(question, ["image"]), {"text": [""]}, media)
        )
    return samples


def in_turn(sides: tuple[Callable[[], None], ...], rounds: int) -> tuple[list[float], ...]:
    """The seconds of each side, after one round that does not count."""
    taken: tuple[list[float], ...] = tuple([] for _ in sides)
    for counts in range(rounds + 1):
        for spent, work in zip(taken, sides, strict=True):
            seconds = seconds_of(work)
            if counts:
                spent.append(seconds)
    return taken


def seconds_of(work: Callable[[], None]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def row_of(case: str, sides: tuple[list[float], ...], unit: str) -> dict[str, Any]:
    """A row of medians and ranges."""
    middle, other = map(statistics.median, sides)
    ranges = [[min(side), max(side)] for side in sides]
    return {
        "case": case,
        "ours": middle,
        "peer": other,
        "ratio": middle / other,
        "unit": unit,
        "n": len(sides[0]),
        "ranges": ranges,
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
