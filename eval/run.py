"""A run: draws are answered, scored and written batch by batch; an interrupted run is resumed."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from eval.answer.backends import Loaded, check_guides, check_pictures, fingerprint_of, generator_of
from eval.benchmarks.load import benchmark_samples
from eval.config import EvalConfig
from eval.distributed import Processes, parts_of
from eval.generation import Draw, Generation, Generator, batches, without_media
from eval.records import (
    RECORDS,
    RUN,
    Record,
    RecordWriter,
    RunInfo,
    digest,
    flat_differences,
    read_records,
    read_run,
    replace_records,
    unrepeated,
    write_run,
)
from eval.sample_sets import SampleSet, split_samples
from eval.score import evaluation_suite, scored, suite_identity
from mmrl.core.config import InputError, shown
from mmrl.core.locks import alone
from mmrl.core.media.files import check_unchanged
from mmrl.core.media.kept import kept_rows
from mmrl.core.vision import CoordinateSpace
from mmrl.model.flow.pictures import right_of, row_of, sources_of
from rewards import Suite
from rewards.prompt_form import PLAIN

logger = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=EvalConfig)

VERSIONED = ("mmrl-stack", "torch", "transformers")


def run(config: EvalConfig) -> list[Record]:
    """Run the evaluation of `config` and return the records in `out`; an interrupted run is resumed.

    Under `accelerate launch` every process answers its share of the batches, and the first one merges the records.
    """
    sets = [(part, sample_set(part)) for part in config.parts()]  # missing files are found before the first run
    main, loaded = Processes().main, Loaded()  # the model of one part answers the next
    records: list[Record] = []
    for part, samples in sets:
        with alone(Path(part.out), needed=main):
            records += _run(part, samples, loaded)
    return records


def sample_set(config: EvalConfig) -> SampleSet:
    """The samples of a config with `data`, or of one of the `parts` of a config with `benchmarks`."""
    if not config.benchmarks:
        return split_samples(config.data)
    [(name, files)] = config.benchmarks.items()
    media = Path(config.out).parent / "media"
    return benchmark_samples(name, files, space=config.space, media=media, makes=config.engine == "flow")


def _run(config: EvalConfig, evaluated: SampleSet, loaded: Loaded) -> list[Record]:
    started = time.monotonic()
    processes = Processes()
    config, samples = asking(config, evaluated), evaluated.load()
    suite, tasks = evaluation_suite(config.rewards, config.judges), {sample.task for sample in samples}
    suite.check_tasks(tasks)
    (config.prompt or PLAIN).check_tasks(tasks)
    if config.engine == "flow":
        check_pictures(config, samples)
    out = Path(config.out)
    draws = [Draw(sample, number) for sample in samples for number in range(config.sampling.samples)]
    info = run_info(config, evaluated, suite, planned=len(draws), fingerprint=loaded.fingerprint(config))
    if processes.main:
        info = prepare(out, info, suite)
    processes.wait()
    if not pending(draws, info, out):
        logger.info("%s holds all %d records already", out, len(draws))
        return read_records(out)
    check_guides(config, samples)
    generator = generator_of(config, samples, draws, info, loaded)
    records = evaluate(generator, draws, evaluated, suite, info, out, batch_size=config.batch_size, processes=processes)
    if processes.main:
        write_run(out, replace(info, seconds=info.seconds + time.monotonic() - started))
    return records


def evaluate(
    generator: Generator,
    draws: Sequence[Draw],
    evaluated: SampleSet,
    suite: Suite,
    info: RunInfo,
    out: Path,
    *,
    batch_size: int,
    processes: Processes | None = None,
) -> list[Record]:
    """Answer the draws that have no record in `out` yet, score them, append them, and return all records there.

    The batches are those of an uninterrupted run, so a resumed run gives the same answers to the last bit. The draws of
    a sample are scored together, also where batches divide them: some rewards compare them with each other.
    """
    processes = processes or Processes()
    missing = pending(draws, info, out)
    whole = batches(draws, batch_size, generator.cost)
    plan = [batch for batch in whole if any(key_of(draw, info) in missing for draw in batch)]
    plan = plan[processes.rank :: processes.count]
    quiet, scorer = not (processes.main and sys.stderr.isatty()), info.scorer
    held: list[Record] = []
    with RecordWriter(out, processes.file) as writer:
        for number, batch in enumerate(track(plan, "evaluating", console=Console(stderr=True), disable=quiet), 1):
            for draw in batch:
                check_unchanged(draw.sample.media)
            answers = generator(batch)
            pairs = zip(batch, answers, strict=True)
            records = [_record(draw, answer, evaluated, info, out) for draw, answer in pairs]
            held += [record for record in records if record.key in missing]
            goes_on = plan[number][0].sample.id if number < len(plan) else None
            writer.append(scored([record for record in held if record.item_id != goes_on], suite, scorer, out))
            held = [record for record in held if record.item_id == goes_on]
    processes.wait()
    if processes.main and processes.count > 1:
        place = {key_of(draw, info): at for at, draw in enumerate(draw for batch in whole for draw in batch)}
        _gather(out, info, suite, place)
    processes.wait()
    return read_records(out)


def asking(config: ConfigT, evaluated: SampleSet) -> ConfigT:
    """`config` with the prompt of its own, or else that of the samples."""
    return config.model_copy(update={"prompt": evaluated.prompt}) if config.prompt is None else config


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
            f"{name}: {shown(change['before'])} there, {shown(change['after'])} now"
            for name, change in flat_differences(stored.protocol, info.protocol).items()
        ]
        if changed and _has_records(out):  # a run without any binds nothing
            raise InputError(
                f"{out} holds records of another protocol ({'; '.join(changed)}); choose another out or remove it"
            )
        info = replace(info, seconds=stored.seconds)
        _gather(out, info, suite, {})
        records = unrepeated(out)
        scorer = info.scorer
        if any(record.scorer != scorer for record in records):
            logger.warning("the rewards or their version changed: %d records in %s are scored again", len(records), out)
            replace_records(out, scored(records, suite, scorer, out), info)
    write_run(out, info)
    return info


def _has_records(out: Path) -> bool:
    place = out / RECORDS
    return bool(parts_of(out)[1]) or (place.is_file() and place.stat().st_size > 0)


def run_info(
    config: EvalConfig, evaluated: SampleSet, suite: Suite, *, planned: int, fingerprint: str | None = None
) -> RunInfo:
    """The RunInfo of a run. `fingerprint` replaces that of the model that `config` names; its prompt is that of
    `asking`."""
    protocol = {
        "fingerprint": fingerprint or fingerprint_of(config),
        "benchmark": evaluated.name,
        "version": evaluated.version,
        "split": evaluated.split,
        **_asked(config),
        "blind": config.blind,
    }
    if config.prompt and config.prompt.protocol():
        protocol["prompt"] = config.prompt.protocol()
    if config.rollout.tools:
        protocol["tools"] = config.rollout.protocol()
    if config.decode:
        protocol["decode"] = config.decode.protocol()
    if config.engine == "vllm":
        protocol["engine"] = (
            config.engine
        )  # equal to local to rounding only, and sampled draws have other random numbers
    if config.server:
        protocol["server"] = config.server.protocol()
    versions = {name: version(name) for name in VERSIONED}
    return RunInfo(config.model, protocol, suite_identity(suite), versions, config.max_unjudged, planned)


def _asked(config: EvalConfig) -> dict[str, Any]:
    """The settings that decide an answer to a question of a sample."""
    if config.engine == "flow":
        return {**config.flow.protocol(config.sampling.seed), "space": CoordinateSpace.pixel.value}
    vision = config.vision.model_dump(mode="json")
    return {**config.sampling.protocol(), "vision": vision, "space": config.space.value}


def _gather(out: Path, info: RunInfo, suite: Suite, place: Mapping[str, int]) -> None:
    """Move the records that several processes wrote into one file, in the order of the plan."""
    parts, files = parts_of(out)
    if not files:
        return
    records = {record.key: record for record in parts}
    if (out / RECORDS).is_file():
        records |= {record.key: record for record in read_records(out)}
    merged = sorted(records.values(), key=lambda record: place.get(record.key, -1))
    scorer = info.scorer
    if any(record.scorer != scorer for record in merged):
        merged = scored(merged, suite, scorer, out)
    replace_records(out, merged, info)
    for file in files:
        file.unlink()


def _record(draw: Draw, answer: Generation, evaluated: SampleSet, info: RunInfo, out: Path) -> Record:
    sample, blind = draw.sample, info.protocol["blind"]
    empty = not answer.response.strip() and not answer.made
    flags = {"blind": blind, "truncated": answer.truncated, "empty": empty}
    row = row_of(sample)
    seen, golds = (sources_of(row), right_of(row)) if answer.made else (sample.media, ())
    prompt = without_media(sample.prompt) if blind else sample.prompt
    return Record(
        key=key_of(draw, info),
        protocol=info.protocol_id,
        benchmark=evaluated.name,
        split=evaluated.split,
        item_id=sample.id,
        draw=draw.number,
        task=sample.task,
        source=sample.source,
        prompt_id=digest(prompt),
        prompt=prompt,
        media=kept_rows(seen, out),
        seen_size=[list(size) for size in answer.seen_size],
        response=answer.response,
        tokens=answer.tokens,
        gold=sample.answer,
        meta={**sample.meta, "space": info.protocol["space"]},
        flags=[flag for flag, holds in flags.items() if holds],
        spent=dict(answer.spent),
        opened=answer.opened,
        turns=[dict(turn) for turn in answer.turns],
        made=[media.row() for media in answer.made],
        film=[media.row() for media in answer.film],
        gold_media=kept_rows(golds, out),
    )
