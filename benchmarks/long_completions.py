"""Scoring and sampling as completions grow: prompts that are shared against rows and caches of their own.

    python -m benchmarks.long_completions [--quick] [--only score] [--new 64 1024] [--json FILE]

`score`: log-probs and backward of one prompt's group, packed rows against plain ones. `trees`: the same for two trees
of four completions, which share a third of their tokens by fours and a third by twos, against packed rows that share
the prompt only. `rollouts`: completions of two prompts, one cache per prompt against a copy of it per rollout. `step`:
a whole GRPO step on one prompt, against stock TRL.

Both sides run in turn, each in a process of its own; CPU seconds are of the second of two runs, medians over the
rounds, and memory is the peak above what was resident before. The last row says how fast the time of scoring grows
with the length of completions, as an exponent.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from benchmarks.grpo_step import Case, ours, peer
from benchmarks.rounds import parser_of, report

CASES = {
    "score": [Case(8, 256, 1, new) for new in (64, 256, 1024, 2048)] + [Case(16, 1024, 1, 256)],
    "trees": [Case(8, 256, 1, new) for new in (192, 768)],
    "rollouts": [Case(16, 1024, 2, 64)],
    "step": [Case(8, 256, 1, new) for new in (32, 256, 1024)],
}
QUICK = {"score": 2, "trees": 1, "rollouts": 1, "step": 1}  # how many of them


def main() -> None:
    """Measure and print the table."""
    parser = parser_of(__doc__, "short completions only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CASES, help="one part")
    parser.add_argument("--new", type=int, nargs="+", help="cases with so many new tokens only")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, side, case = arguments.worker
        print(json.dumps(measured(what, side, Case(**json.loads(case)))))
        return
    rows = [
        row
        for what in ([arguments.only] if arguments.only else CASES)
        for case in CASES[what][: QUICK[what] if arguments.quick else None]
        if not arguments.new or case.new_tokens in arguments.new
        for row in compared(what, case, arguments.rounds)
    ]
    scored = [row for row in rows if row["case"].startswith("score G=8") and row["unit"] == "CPU s"]
    rows += [growth(scored)] if len(scored) > 1 else []
    report(rows, arguments.json, ratio="ratio", number=".3g")


def compared(what: str, case: Case, rounds: int) -> list[dict[str, Any]]:
    """The rows of time and memory of one case."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, done in runs.items():
            done.append(in_process(what, side, case))
    name = f"{what} G={case.group}, {case.vision_tokens} vision, {case.new_tokens} new"
    rows = []
    for key, unit in (("seconds", "CPU s"), ("megabytes", "MB")):
        values = [[run[key] for run in done] for done in runs.values()]
        middle, other = map(statistics.median, values)
        ranges = [[min(side), max(side)] for side in values]
        row = {"case": name, "ours": middle, "peer": other, "ratio": middle / other, "unit": unit, "n": rounds}
        rows.append({**row, "ranges": ranges, "new": case.new_tokens})
    print(f"{name}: {rows[0]['ratio']:.3f} of the time", file=sys.stderr, flush=True)
    return rows


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By which power of the new tokens the CPU seconds grow, between the shortest and the longest case."""
    first, last = rows[0], rows[-1]
    span = math.log(last["new"] / first["new"])
    middle, other = (math.log(last[side] / first[side]) / span for side in ("ours", "peer"))
    name, ranges = f"growth from {first['new']} to {last['new']} new", [[middle, middle], [other, other]]
    return {
        "case": name,
        "ours": middle,
        "peer": other,
        "ratio": middle / other,
        "unit": "exponent",
        "n": 1,
        "ranges": ranges,
    }


def in_process(what: str, side: str, case: Case) -> dict[str, float]:
    """The measurement of one side, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.long_completions", "--worker", what, side, json.dumps(asdict(case))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{what} of {side} failed on {case.name}:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def measured(what: str, side: str, case: Case) -> dict[str, float]:
    """CPU seconds of the second of two runs, and the peak memory of both."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        stock = what == "step" and side == "peer"
        trainer = (peer if stock else ours)(case, Path(directory))
        if what == "step":
            work = stepping(trainer)
        else:
            rows = [trainer.generation.encode(row) for row in trainer.train_dataset]
            rows = [row for row in rows for _ in range(case.group)]
            kinds = {"score": scoring, "trees": tree_scoring, "rollouts": sampling}
            work = twice(kinds[what](trainer, rows, case, shared=side == "ours"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes": (peak - before) / 1024}


def twice(work: Callable[[], Any]) -> Callable[[], float]:
    """Does `work` twice; gives the CPU seconds of the second time."""

    def done() -> float:
        work()
        start = time.process_time()
        work()
        return time.process_time() - start

    return done


def stepping(trainer: Any) -> Callable[[], float]:
    """Trains two steps; gives the CPU seconds of the second one."""
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.process_time())

    def done() -> float:
        trainer.args.max_steps = 2
        trainer.add_callback(Clock())
        trainer.train()
        return time.process_time() - marks[1]

    return done


def scoring(trainer: Any, rows: list[Any], case: Case, *, shared: bool) -> Callable[[], Tensor]:
    """Log-probs of random completions, and their gradient."""
    trainer.sharing.packing = shared
    return scoring_of(trainer, rows, random_completions(rows, case))


def tree_scoring(trainer: Any, rows: list[Any], case: Case, *, shared: bool) -> Callable[[], Tensor]:
    """Log-probs of random trees, and their gradient."""
    from mmrl.grpo.shared_prefix import packing
    from mmrl.grpo.shared_prefix.beginnings import Part

    trainer.sharing.packing = True
    if not shared:
        packing.parts_by_prompt = lambda rows, completions: {
            id(rows[0].asked): [Part([number], 0, ids, []) for number, ids in enumerate(completions)]
        }
    ids, third = random_completions(rows, case), case.new_tokens // 3
    for begin, together in ((0, 4), (third, 2)):
        part = slice(begin, begin + third)
        ids[:, part] = ids[::together, part].repeat_interleave(together, dim=0)
    return scoring_of(trainer, rows, ids)


def random_completions(rows: list[Any], case: Case) -> Tensor:
    """Token ids of a completion for each row."""
    torch.manual_seed(0)
    return torch.randint(10, 300, (len(rows), case.new_tokens))


def scoring_of(trainer: Any, rows: list[Any], completions: Tensor) -> Callable[[], Tensor]:
    """Log-probs of completions, and their gradient."""
    from mmrl.grpo.batch import RolloutBatch

    trainer.batch, length = RolloutBatch(rows=rows), completions.shape[1]
    ids = torch.tensor([row.input_ids for row in rows])
    ids = torch.cat([ids, completions], dim=1).to(trainer.accelerator.device)

    def work() -> Tensor:
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model.train(), ids, torch.ones_like(ids), length
        )
        (-logps.mean()).backward()
        trainer.model.zero_grad()
        return logps.detach()

    return work


def sampling(trainer: Any, rows: list[Any], case: Case, *, shared: bool) -> Callable[[], None]:
    """Completions of all rows, each as long as it may be."""
    from mmrl.grpo.shared_prefix import prefix_cache

    if not shared:
        prefix_cache.shares = lambda cache: False
    new = {"max_new_tokens": case.new_tokens, "min_new_tokens": case.new_tokens, "do_sample": True}
    pad = trainer._tokenizer.pad_token_id

    def work() -> None:
        with torch.no_grad():
            prefix_cache.generated(
                trainer.model.eval(),
                rows,
                trainer.media,
                pad=pad,
                device=trainer.accelerator.device,
                shared=True,
                **new,
            )

    return work


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
