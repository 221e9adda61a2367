"""A run: the draws of a benchmark answered, scored and written down batch by batch, and continued where it stopped."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.progress import track

from data_engine.schema import Sample
from eval.benchmark import (
    Benchmark,
    Data,
    Draw,
    Generation,
    Generator,
    Sampling,
    batches,
    dataset_benchmark,
    without_media,
)
from eval.records import (
    RECORDS,
    RUN,
    Record,
    RecordWriter,
    RunInfo,
    differences,
    digest,
    media_entry,
    read_records,
    read_run,
    replace_records,
    write_run,
)
from eval.score import evaluation_suite, scored, suite_identity
from mmrl.config import Config, InputError
from mmrl.vision import CoordinateSpace, VisionBudget
from rewards import RewardSpec, Suite

logger = logging.getLogger(__name__)

VERSIONED = ("mmrl-stack", "torch", "transformers")


class EvalConfig(Config):
    """`mmrl eval run`: a checkpoint, the samples it answers, the rewards that score it, and where the records go.

    `space` is the coordinate space the model speaks. `blind` asks without the media. A mean is withheld from reports
    when more than `max_unjudged` of its verdicts are missing.
    """

    model: str
    data: Data
    rewards: dict[str, RewardSpec]
    out: str
    sampling: Sampling = Sampling()
    vision: VisionBudget = VisionBudget()
    space: CoordinateSpace = CoordinateSpace.resized
    blind: bool = False
    batch_size: PositiveInt = 16
    max_unjudged: Annotated[float, Field(ge=0, le=1)] = 0.1


def run(config: EvalConfig) -> list[Record]:
    """Evaluate as `config` says and return the records in `out`; a run that was stopped goes on where it stopped."""
    started = time.monotonic()
    benchmark = dataset_benchmark(config.data)
    samples = benchmark.load()
    suite = evaluation_suite(config.rewards)
    suite.check_tasks(sample.task for sample in samples)
    out = Path(config.out)
    draws = [Draw(sample, number) for sample in samples for number in range(config.sampling.samples)]
    info = prepare(out, run_info(config, benchmark, suite, planned=len(draws)), suite)
    if not pending(draws, info, out):
        logger.info("%s holds all %d records already", out, len(draws))
        return read_records(out)
    records = evaluate(_local(config, samples), draws, benchmark, suite, info, out, batch_size=config.batch_size)
    write_run(out, replace(info, seconds=info.seconds + time.monotonic() - started))
    return records


def evaluate(
    generator: Generator,
    draws: Sequence[Draw],
    benchmark: Benchmark,
    suite: Suite,
    info: RunInfo,
    out: Path,
    *,
    batch_size: int,
) -> list[Record]:
    """Answer the draws that have no record in `out` yet, score them, append them, and return all records there.

    Batches are those of an uninterrupted run, so that what was interrupted ends with the same answers to the last bit.
    """
    missing = pending(draws, info, out)
    plan = batches(draws, batch_size, generator.cost)
    plan = [batch for batch in plan if any(key_of(draw, info) in missing for draw in batch)]
    with RecordWriter(out) as writer:
        for batch in track(plan, "evaluating", console=Console(stderr=True), disable=not sys.stderr.isatty()):
            answers = generator(batch)
            records = [_record(draw, answer, benchmark, info) for draw, answer in zip(batch, answers, strict=True)]
            writer.append(scored([record for record in records if record.key in missing], suite, info.scorer))
    return read_records(out)


def pending(draws: Sequence[Draw], info: RunInfo, out: Path) -> set[str]:
    """The keys of the draws that have no record in `out`."""
    done = {record.key for record in read_records(out)} if (out / RECORDS).is_file() else set()
    return {key_of(draw, info) for draw in draws} - done


def key_of(draw: Draw, info: RunInfo) -> str:
    """The key of a draw's record."""
    return info.key(draw.sample.id, draw.number)


def prepare(out: Path, info: RunInfo, suite: Suite) -> RunInfo:
    """Open `out` for a run: refuse records of another protocol, rescore those of another suite, write `run.json`."""
    if (out / RUN).is_file():
        stored = read_run(out)
        changed = [
            f"{name}: {change['before']} there, {change['after']} now"
            for name, change in differences(stored.protocol, info.protocol).items()
        ]
        if changed:
            raise InputError(
                f"{out} holds records of another protocol ({'; '.join(changed)}); choose another out or remove it"
            )
        info = replace(info, seconds=stored.seconds)
        records = read_records(out) if (out / RECORDS).is_file() else []
        if any(record.scorer != info.scorer for record in records):
            logger.info("the rewards changed: %d records in %s are scored again", len(records), out)
            replace_records(out, scored(records, suite, info.scorer), info)
    write_run(out, info)
    return info


def run_info(config: EvalConfig, benchmark: Benchmark, suite: Suite, *, planned: int) -> RunInfo:
    """How this run's records come about."""
    from eval.checkpoint import check_architecture, fingerprint, local

    model = local(config.model)
    check_architecture(model)
    protocol = {
        "fingerprint": fingerprint(model),
        "benchmark": benchmark.name,
        "version": benchmark.version,
        "split": benchmark.split,
        **config.sampling.protocol(),
        "vision": config.vision.model_dump(mode="json"),
        "space": config.space.value,
        "blind": config.blind,
    }
    versions = {name: version(name) for name in VERSIONED}
    return RunInfo(config.model, protocol, suite_identity(suite), versions, config.max_unjudged, planned)


def _local(config: EvalConfig, samples: Sequence[Sample]) -> Generator:
    from accelerate import PartialState

    from eval.checkpoint import load_checkpoint, local
    from eval.generate import LocalGenerator, probe_sizes
    from mmrl.vision import apply_budget, check_budget

    model, processor = load_checkpoint(local(config.model))
    apply_budget(processor, config.vision)
    check_budget(processor, config.vision, probe_sizes(samples, config.vision, processor))
    model = model.to(PartialState().device).eval()
    return LocalGenerator(model, processor, budget=config.vision, sampling=config.sampling, blind=config.blind)


def _record(draw: Draw, answer: Generation, benchmark: Benchmark, info: RunInfo) -> Record:
    sample, blind = draw.sample, info.protocol["blind"]
    flags = {"blind": blind, "truncated": answer.truncated, "empty": not answer.response.strip()}
    prompt = without_media(sample.prompt) if blind else sample.prompt
    return Record(
        key=key_of(draw, info),
        protocol=info.protocol_id,
        benchmark=benchmark.name,
        split=benchmark.split,
        item_id=sample.id,
        draw=draw.number,
        task=sample.task,
        source=sample.source,
        prompt_id=digest(prompt),
        prompt=prompt,
        media=[media_entry(media) for media in sample.media],
        seen_size=[list(size) for size in answer.seen_size],
        response=answer.response,
        tokens=answer.tokens,
        gold=sample.answer,
        meta={**sample.meta, "space": info.protocol["space"]},
        flags=[flag for flag, holds in flags.items() if holds],
    )
