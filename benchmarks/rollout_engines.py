"""Who draws the completions: vLLM's server against the policy in this process, new weights, and drawing ahead.

    python -m benchmarks.rollout_engines --python VLLM_PYTHON [--quick] [--only draw] [--json FILE]

`draw`: 16 prompts, 8 completions of 32 tokens each, by vLLM and by the local engine with shared prompts, in turn; wall
seconds, and CPU seconds of all processes of either side. Prompts have 16 vision tokens or, for the smaller model, also
256. `push`: seconds until all weights are in the running server and its caches are empty. `ahead`: seconds of a GRPO
step that draws for the next step meanwhile, against one that draws and then learns. Server and trainer have one thread
each. The larger model has one round.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.grpo_step import Case, clocks, picture, policy, questions, settings
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
ROUNDS = {"2 M": 3, "160 M": 1}
VISION = {"2 M": (16, 256), "160 M": (16,)}  # tokens of a prompt's picture
AHEAD = (Case(GROUP, 256, 8, 48), Case(GROUP, 16, 4, 192))  # drawing is a third of a step, and half of it
STEPS = 10

Work = Callable[[Sequence[Any]], None]  # draws completions for encoded prompts
Spent = list[tuple[float, float]]  # wall and CPU seconds of each round


def main() -> None:
    """Measure and print the table."""
    parser = parser_of(__doc__, "the smaller model only")
    parser.add_argument("--python", default=os.environ.get("MMRL_VLLM_PYTHON"), help="the interpreter that has vLLM")
    parser.add_argument("--only", choices=("draw", "ahead"), help="one part")
    arguments = parser.parse_args()
    if not arguments.python:
        raise SystemExit("no interpreter with vLLM: --python, or MMRL_VLLM_PYTHON")
    torch.set_num_threads(1)
    rows = []
    if arguments.only != "ahead":
        for name in ["2 M"] if arguments.quick else SIZES:
            rows += drawn(name, arguments.python)
    if arguments.only != "draw":
        for case in AHEAD:
            rows += ahead(case, arguments.python)
    report(rows, arguments.json, peer="other", ratio="ratio", number=".3g")


def drawn(name: str, python: str) -> list[dict[str, Any]]:
    """The rows of one model: pushes, and completions of short and of long prompts."""
    case, rows = Case(GROUP, max(VISION[name]), PROMPTS, NEW), []
    with tempfile.TemporaryDirectory() as directory:
        model, processor, engine, budget = world(Path(directory), case, SIZES[name], python)
        pushes = [seconds_of(lambda step=step: engine.push(model, str(step)))[0] for step in range(1, 6)]
        size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M"
        rows.append(row_of(f"push, {size}, against the promised 0.3", (pushes, [0.3]), "s"))
        sides = by_vllm(engine, model, processor), by_policy(model, processor)
        for vision in VISION[name]:
            samples = sampled(Case(GROUP, vision, PROMPTS, NEW), Path(directory))
            prompts = [encode(processor, sample.prompt, sample.media, budget) for sample in samples]
            taken = in_turn(sides, prompts, ROUNDS[name])
            title = f"draw by vLLM against local, {size}, prompts of {len(prompts[0].input_ids)}"
            for number, unit in enumerate(("wall s", "CPU s")):
                rows.append(row_of(title, tuple([spent[number] for spent in side] for side in taken), unit))
        engine.close()
    for row in rows:
        print(f"{row['case']}: {row['ours']:.3g} and {row['peer']:.3g} {row['unit']}", file=sys.stderr, flush=True)
    return rows


def by_vllm(engine: VllmEngine, model: Any, processor: Any) -> Work:
    """All completions of prompts, by the server."""
    writer, banned = FeatureWriter(model.config, processor), tuple(vision_token_ids(model.config, processor))

    def work(prompts: Sequence[Any]) -> None:
        engine.client.post("/reset_prefix_cache")
        asked = [Question(prompt.input_ids, writer(prompt), GROUP, 1) for prompt in prompts]
        answers = engine.completions(asked, Drawing(NEW, banned=banned))
        assert all(len(answer.ids) == NEW for group in answers for answer in group)

    return work


def by_policy(model: Any, processor: Any) -> Work:
    """All completions of prompts, in this process, with shared prompts."""
    banned, pad = vision_token_ids(model.config, processor), processor.tokenizer.pad_token_id

    def work(prompts: Sequence[Any]) -> None:
        rows = [prompt for prompt in prompts for _ in range(GROUP)]
        sampler = RowSampler([(i,) for i in range(len(rows))], max_new_tokens=NEW)
        with torch.no_grad():
            generated(
                model,
                rows,
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

    return work


def ahead(case: Case, python: str) -> list[dict[str, Any]]:
    """The rows of a case: steps that draw ahead against those that do not, and how much of the latter is drawing."""
    name = f"{case.name}, {case.new_tokens} new"
    (meanwhile, _), (serial, drawing) = step_seconds(case, 1, python), step_seconds(case, 0, python)
    return [
        row_of(f"GRPO step, ahead against serial, 2 M, {name}", (meanwhile, serial), "s a step"),
        row_of(f"drawing in the serial step, {name}", (drawing, serial), "s a step"),
    ]


def step_seconds(case: Case, ahead: int, python: str) -> tuple[list[float], list[float]]:
    """Seconds of the optimizer steps of a training without the first two, and those that each spends on drawing."""
    from mmrl.grpo.trainer import MultimodalGRPOTrainer
    from mmrl.trainers.dataset import as_dataset
    from rewards import Suite

    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        model, processor, _, budget = world(place, case, SIZES["2 M"], None)
        args = settings(case, place / "run")
        args.max_steps = STEPS
        trainer = MultimodalGRPOTrainer(
            model,
            processing_class=processor,
            rewards=Suite({"fixed": {"fn": "benchmarks.grpo_step:fixed"}}),
            args=args,
            train_dataset=as_dataset(sampled(case, place)),
            budget=budget,
            advantages="grpo",
            engine=settings_of(python),
            ahead=ahead,
            importance_cap=2.0,
        )
        parts, cores = clocks(trainer), sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[1:])  # what the first step starts inherits it
        step, marks = trainer.training_step, [time.perf_counter()]

        def timed(*args: Any, **kwargs: Any) -> Any:
            for spent in parts.values():
                spent.append(0.0)
            result = step(*args, **kwargs)
            marks.append(time.perf_counter())
            os.sched_setaffinity(0, cores[:1])
            return result

        trainer.training_step = timed
        trainer.train()
        os.sched_setaffinity(0, cores)
    return [after - before for before, after in itertools.pairwise(marks[2:])], parts["rollout"][2:]


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


def in_turn(sides: tuple[Work, Work], prompts: Sequence[Any], rounds: int) -> tuple[Spent, Spent]:
    """What each side takes, after two prompts that do not count."""
    taken: tuple[Spent, Spent] = ([], [])
    for work in sides:
        work(prompts[:2])
    for _ in range(rounds):
        for spent, work in zip(taken, sides, strict=True):
            spent.append(seconds_of(lambda work=work: work(prompts)))
    return taken


def seconds_of(work: Callable[[], None]) -> tuple[float, float]:
    """The wall seconds of `work`, and the CPU seconds of this process and its children."""
    start, busy = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - start, cpu_seconds() - busy


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children that it has now."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(one.user + one.system for one in times)


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
