"""Trainings in processes of their own, for tests that kill them or run two at once; and what they train on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from data_engine.schema import Media, Sample, user_prompt, with_id
from data_engine.shards import write_dataset
from data_engine.synthesis import digits_grounding, digits_video
from mmrl.cli import VERBS, run
from tests.conftest import TEXTS, stored

REWARDS = {"letters": {"fn": "tests.training:letters"}, "brevity": {"fn": "tests.training:brevity", "weight": 0.5}}
VISION = {"min_pixels": 784, "max_pixels": 3136, "min_frames": 2, "max_frames": 4, "total_pixels": 12544}
TIMES = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"}


def letters(rollouts: Any) -> list[float]:
    """The share of vowels; where the environment says DIE_AT=step, the process is killed there as by `kill -9`."""
    if rollouts[0].step >= int(os.environ.get("DIE_AT", sys.maxsize)):
        os.kill(os.getpid(), signal.SIGKILL)
    return [sum(c in "aeiou" for c in rollout.completion) / max(len(rollout.completion), 1) for rollout in rollouts]


def brevity(rollouts: Any) -> list[float]:
    return [1 / (1 + len(rollout.completion)) for rollout in rollouts]


def questions(number: int, directory: Path) -> Iterator[Sample]:
    """Questions about no picture, one, two, and a video, in turn; `number` in all, their media in `directory`."""
    directory.mkdir(parents=True)
    made = [next(digits_grounding(n=1, seed=seed, side=side)) for seed, side in ((0, 84), (1, 56), (2, 56))]
    pictures = [stored(sample.media[0], directory) for sample in made]
    clip = stored(next(digits_video(n=1, side=56, seconds=2.0)).media[0], directory)
    kinds: list[tuple[str, dict[str, Any], tuple[Media, ...]]] = [
        ("text", {"text": ["yes"]}, ()),
        ("count", {"number": 2.0}, (pictures[0],)),
        ("temporal", {"spans": [[0.5, 1.0]]}, (clip,)),
        ("count", {"number": 3.0}, (pictures[1], pictures[2])),
    ]
    for index in range(number):
        task, answer, media = kinds[index % len(kinds)]
        prompt = user_prompt(f"{index} digits?", [one.kind for one in media])
        yield with_id(Sample("", "test", task, prompt, answer, media, {"rationale": "I see"}))


def material(out: Path, number: int = 13) -> Path:
    """`out` with a dataset in `data` and a tiny random Qwen2.5-VL in `model`."""
    from mmrl.tiny import TinySize, tiny_model

    write_dataset(questions(number, out / "media"), out / "data")
    size = TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)
    for part in tiny_model("qwen2_5_vl", TEXTS, size=size):
        part.save_pretrained(out / "model")
    return out


def config(material: Path, place: Path, **changes: Any) -> Path:
    """A training config in `place` whose output is beside it; `changes` lie over it, key by key within the blocks."""
    trl = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "learning_rate": 1e-2}
    values: dict[str, Any] = {
        "model": str(material / "model"),
        "data": str(material / "data"),
        "output": str(place.with_suffix("")),
        "vision": VISION,
        "rewards": REWARDS,
        "grpo": trl | {"num_generations": 2, "max_completion_length": 6, "per_device_train_batch_size": 2},
    }
    for key, value in changes.items():
        block = key in ("grpo", "sft") and value is not None
        values[key] = {**values.get(key, trl), **value} if block else value
    place.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return place


# A process that has imported everything and computed nothing; trainings are forked from it and start at once.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mmrl.trainer", "mmrl.sft", "mmrl.train", "peft", "tests.training"])


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> ForkServerProcess:
    """A process that does what `mmrl train ARGUMENTS` does; what it says goes to `log`."""
    process = _CONTEXT.Process(target=_train, args=(list(arguments), log, dict(environment or {})))
    process.start()
    return process


def trained(arguments: Sequence[str], log: Path, processes: int = 1, timeout: float = 180, **environment: str) -> str:
    """Run `mmrl train ARGUMENTS` in one or several processes to its end; what it said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        | {"MASTER_PORT": port}
        for rank in range(processes)
    ]
    logs = [log.with_suffix(f".{rank}.log") for rank in range(processes)]
    running = [
        start(arguments, one, environment | (rank if processes > 1 else {}))
        for one, rank in zip(logs, ranks, strict=True)
    ]
    for process in running:
        process.join(timeout)
    codes = [process.exitcode for process in running]
    for process in running:
        process.kill()
    said = "\n".join(one.read_text() for one in logs)
    assert codes == [0] * processes, f"exit codes {codes} (None: still running after {timeout} s)\n{said}"
    return said


def _train(arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    run("mmrl train", VERBS["train"][0], arguments)


def metrics(out: Path) -> list[dict[str, Any]]:
    """What a run logged at its steps, without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line.keys() - TIMES} for line in lines if "loss" in line]


def rollouts(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a run's rollout files, by file."""
    return {place.name: pq.read_table(place).to_pylist() for place in sorted((out / "rollouts").glob("*.parquet"))}
