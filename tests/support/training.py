"""Trainings in processes of their own, for tests that kill them or run two at once, and their material."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_grounding, digits_video
from mmrl.cli import VERBS, run
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget, apply_budget
from tests.conftest import TEXTS, stored

REWARDS = {
    "letters": {"fn": "tests.support.training:letters"},
    "brevity": {"fn": "tests.support.training:brevity", "weight": 0.5},
}
VISION = {"min_pixels": 784, "max_pixels": 3136, "min_frames": 2, "max_frames": 4, "total_pixels": 12544}
OF_THE_PROCESS = ("step_time", "num_tokens", "engine/")  # depend on the clock, or count since the process started


def letters(rollouts: Any) -> list[float]:
    """The share of vowels; with DIE_AT=step in the environment, the process is killed at that step as by `kill -9`."""
    if (rollouts[0].step or 0) >= int(os.environ.get("DIE_AT", sys.maxsize)):  # no step in an evaluation
        os.kill(os.getpid(), signal.SIGKILL)
    return [sum(c in "aeiou" for c in rollout.completion) / max(len(rollout.completion), 1) for rollout in rollouts]


def brevity(rollouts: Any) -> list[float]:
    return [1 / (1 + len(rollout.completion)) for rollout in rollouts]


def questions(kinds: str, directory: Path) -> Iterator[Sample]:
    """A question for every letter: about no picture (t), one (i), two (p) or a video (v); media in `directory`."""
    directory.mkdir(parents=True)
    made = [next(digits_grounding(n=1, seed=seed, side=side)) for seed, side in ((0, 84), (1, 56), (2, 56))]
    video, *two = (stored(sample.media[0], directory) for sample in made)
    clip = stored(next(digits_video(n=1, side=56, seconds=2.0)).media[0], directory)
    kinds_of_question: dict[str, tuple[str, dict[str, Any], tuple[Media, ...]]] = {
        "t": ("text", {"text": ["yes"]}, ()),
        "i": ("count", {"number": 2.0}, (video,)),
        "p": ("count", {"number": 3.0}, tuple(two)),
        "v": ("temporal", {"spans": [[0.5, 1.0]]}, (clip,)),
    }
    for index, kind in enumerate(kinds):
        task, answer, media = kinds_of_question[kind]
        prompt = user_prompt(f"{index} digits?", [item.kind for item in media])
        yield with_id(Sample("", "test", task, prompt, answer, media, {"rationale": "I see"}))


def preferences(kinds: str, directory: Path) -> Iterator[Sample]:
    """The same questions with two answers each, of which the second is preferred."""
    for number, sample in enumerate(questions(kinds, directory)):
        answer = {"candidates": [f"It shows {number}", "I see two"], "preferred": 1}
        yield with_id(replace(sample, task="preference", answer=answer, meta={"task": sample.task, "split": "train"}))


def material(out: Path, kinds: str) -> Path:
    """`out` with a dataset of `questions` in `data` and a tiny random Qwen2.5-VL in `model`."""
    from mmrl.model.tiny_twins import TinySize, tiny_model

    write_dataset(questions(kinds, out / "media"), out / "data")
    size = TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)
    for part in tiny_model("qwen2_5_vl", TEXTS, size=size):
        part.save_pretrained(out / "model")
    return out


def config(material: Path, place: Path, **changes: Any) -> Path:
    """A training config in `place` with its output next to it; `changes` override it, key by key within the blocks."""
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
        block = key in ("grpo", "dpo", "sft", "reward") and value is not None
        given: Any = value
        values[key] = {**values.get(key, trl), **given} if block else value
    place.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return place


# A process that has imported everything and computed nothing; trainings are forked from it and start immediately.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "mmrl.grpo.trainer",
        "mmrl.trainers.sft",
        "mmrl.trainers.dpo",
        "mmrl.train.stages",
        "peft",
        "tests.support.training",
    ]
)


def trained(config: Path, *, processes: int = 1, dies: bool = False, timeout: float = 600, **environment: str) -> Path:
    """The output of `mmrl train CONFIG`, run to its end, or to its death, in one or several processes."""
    expected = -signal.SIGKILL if dies else 0
    codes, output = ended(config, [environment] * processes, timeout=timeout)
    assert codes == [expected] * processes, f"exit codes {codes} (None: still running after {timeout} s)\n{output}"
    return config.with_suffix("")


def ended(
    config: Path, environments: Sequence[Mapping[str, str]], *, timeout: float = 600
) -> tuple[list[int | None], str]:
    """The exit codes of processes that run `mmrl train CONFIG`, one for each environment, and what they printed."""
    processes = len(environments)
    logs = [config.with_suffix(f".{rank}.log") for rank in range(processes)]
    own = _ranks(processes) if processes > 1 else [{}]
    ranks = [{**environment, **rank} for environment, rank in zip(environments, own, strict=True)]
    running = [
        _CONTEXT.Process(target=_train, args=([str(config)], log, rank)) for log, rank in zip(logs, ranks, strict=True)
    ]
    for process in running:
        process.start()
    end = time.monotonic() + timeout
    for process in running:
        process.join(max(end - time.monotonic(), 0))
    codes = [process.exitcode for process in running]
    for process in running:
        process.kill()
    return codes, "\n".join(log.read_text() for log in logs)


def killed(config: Path, *, step: int, delay: float) -> int:
    """Run `mmrl train CONFIG` until it has logged `step`, and `delay` seconds on; `kill -9`; the last step logged."""
    out = config.with_suffix("")
    process = _CONTEXT.Process(target=_train, args=([str(config)], config.with_suffix(".log"), {}))
    process.start()
    while process.is_alive() and max((line["step"] for line in metrics(out)), default=0) < step:
        time.sleep(0.02)
    process.join(delay)
    assert process.exitcode is None, "ended before it was killed"
    process.kill()
    process.join()
    return max(line["step"] for line in metrics(out))


def _ranks(processes: int) -> list[dict[str, str]]:
    """The environment of each process, as `torchrun` makes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    every = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [every | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _train(arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    if "DIE_OPENING" in environment:
        sys.addaudithook(_die_opening)
    if "FULL_OPENING" in environment:
        sys.addaudithook(_full_opening)
    if "FSDP" in environment:
        _shard_on_cpu()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    run("mmrl train", VERBS["train"][0], arguments)


def _shard_on_cpu() -> None:
    """Have accelerate shard on CPUs, as torch can: it leaves FSDP out where it believes to be on one."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")
    state: Any = PartialState
    state._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


def _die_opening(event: str, values: tuple[Any, ...]) -> None:
    """Kill the process as by `kill -9` when it opens a file whose path ends in the environment's DIE_OPENING."""
    if event == "open" and str(values[0]).endswith(os.environ["DIE_OPENING"]):
        os.kill(os.getpid(), signal.SIGKILL)


def _full_opening(event: str, values: tuple[Any, ...]) -> None:
    """After a file is opened whose path ends in FULL_OPENING, files cannot grow beyond a block."""
    if event == "open" and str(values[0]).endswith(os.environ["FULL_OPENING"]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))


def metrics(out: Path) -> list[dict[str, Any]]:
    """The metrics of a run's steps, without those that depend on the process."""
    from mmrl.trainers.callbacks import read_metrics

    lines = [line for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    return [{key: value for key, value in line.items() if not key.startswith(OF_THE_PROCESS)} for line in lines]


def rollouts(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a run's rollout files, by file."""
    return {place.name: pq.read_table(place).to_pylist() for place in sorted((out / "rollouts").glob("*.parquet"))}


def tiny_policy(budget: VisionBudget, architecture: str = "qwen2_5_vl") -> tuple[Any, Any]:
    """A tiny model and its processor, which sees media within the budget."""
    from mmrl.model.tiny_twins import tiny_model

    model, processor = tiny_model(architecture, TEXTS)
    apply_budget(processor, budget)
    return model, processor


def inputs_alone(model: Any, row: Any, ids: Any) -> dict[str, Any]:
    """What `forward` takes of an encoded prompt beside the `ids` [1, T] of a row that begins with it."""
    from torch.nn.functional import pad

    names, grown = inspect.signature(type(model).forward).parameters, ids.shape[1] - len(row.input_ids)
    tensors = {key: value for key, value in row.tensors.items() if key in names}
    return {key: pad(value, (0, grown)) if key in row.along else value for key, value in tensors.items()}
