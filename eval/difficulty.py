"""How hard samples are for a model: draws scored by the reward of each task, and more draws only where they matter.

The draws are those of `mmrl eval run`, with its records; the data engine reads the table made of them.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from data_engine.measure.bands import Band, Counts, Spread, is_decided, moments
from data_engine.measure.difficulty_table import Difficulty, asked_key, write_difficulty
from data_engine.schema import Sample
from eval.distributed import Processes
from eval.generation import Draw, Generator, Sampling
from eval.records import TOTAL, Record, RunInfo, read_records, read_run, write_run
from eval.run import EvalConfig, asking, evaluate, generator_of, pending, prepare, run_info
from eval.sample_sets import DatasetSplit, SampleSet, split_samples
from eval.score import evaluation_suite
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.locks import alone
from rewards import RewardSpec, Suite
from rewards.tasks.table import OTHER, TASKS

logger = logging.getLogger(__name__)

FILE = "difficulty.parquet"
_DECODING = ("decoding", "temperature", "top_p", "seed", "max_new_tokens")

Reward = str | dict[str, str] | None  # the name of the reward that decides, or one for each task
Right = Annotated[float, Field(gt=0, le=1)]  # the lowest score of a right answer


def by_rule() -> dict[str, RewardSpec]:
    """The reward of every task that a rule scores."""
    return {task: RewardSpec(fn=kind.rule, tasks=[task]) for task, kind in TASKS.items() if kind.rule}


def with_rules(given: Mapping[str, RewardSpec]) -> dict[str, RewardSpec]:
    """`given`, and the rule of every task that none of them is for. One with the name of a task and no tasks is for it.

    >>> sorted(with_rules({"open": RewardSpec(fn="rouge_l")}).keys() - {"open"}) == sorted(by_rule())
    True
    """
    named = {
        name: spec.model_copy(update={"tasks": [name]}) if spec.tasks is None and name in TASKS else spec
        for name, spec in given.items()
    }
    taken = {task for spec in named.values() for task in spec.tasks or ()}
    general = {spec.fn for spec in named.values() if spec.tasks is None}
    usual = {task: spec for task, spec in by_rule().items() if task not in taken and spec.fn not in general}
    return {**usual, **named}


class DrawnConfig(EvalConfig):
    """An evaluation of training samples, `data`, whose scored draws say something about each sample.

    `rewards` join the rules of all other tasks. `tasks` are those that are drawn; default: all. `reward` names the
    reward that decides (for all tasks, or task -> name). By default it is the reward whose function is the rule of the
    task, or the only reward of the task.
    """

    data: DatasetSplit = DatasetSplit(path="", split="train")
    rewards: dict[str, RewardSpec] = Field(default_factory=dict, validate_default=True)
    tasks: list[str] | None = None
    sampling: Sampling = Sampling(do_sample=True)
    reward: Reward = None

    @field_validator("rewards")
    @classmethod
    def _with_the_usual(cls, given: dict[str, RewardSpec]) -> dict[str, RewardSpec]:
        return with_rules(given)

    @field_validator("data", mode="before")
    @classmethod
    def _of_training(cls, given: Any) -> Any:
        return {"split": "train", **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _of_samples(self) -> Self:
        if self.blind:
            raise ValueError("blind draws do not say how hard a sample is; leave blind out")
        if self.engine == "flow":
            raise ValueError("difficulty is that of questions to a model that writes; engine: flow makes pictures")
        if self.benchmarks:
            raise ValueError("the draws are those of training samples; give `data`, no `benchmarks`")
        return self


class DifficultyConfig(DrawnConfig):
    """`mmrl data difficulty`: an evaluation of `data` whose draws come in rounds.

    `rounds` are how many draws a sample has in all after each round. A sample goes to the next round only while it is
    open, with less than `confidence`, on which side of its band it ends: `counts` where answers are right or wrong,
    `spread` where scores are graded, or as `bands` (task -> counts or spread) sets it. `chance_corrected` removes the
    expected share of right guesses from choices and yes/no. An answer is right if its score is at least `right`.
    `rewards`, `tasks` and `reward` are those of a DrawnConfig.
    """

    right: Right = 0.5
    rounds: Annotated[list[PositiveInt], Field(min_length=1)] = Field(default_factory=lambda: [4, 8])
    counts: Counts = Counts()
    spread: Spread = Spread()
    bands: dict[str, Band] = Field(default_factory=dict)
    chance_corrected: bool = True
    confidence: Annotated[float, Field(gt=0.5, le=1)] = 0.95

    @model_validator(mode="after")
    def _draws_add_up(self) -> Self:
        if self.rounds != sorted(set(self.rounds)):
            raise ValueError(f"rounds {self.rounds}: each is the number of draws so far, so they must rise")
        if not self.sampling.do_sample and self.rounds != [1]:
            raise ValueError("greedy draws are all the same; set sampling.do_sample: true, or rounds: [1]")
        if self.sampling.samples != 1:
            raise ValueError(f"sampling.samples is {self.sampling.samples}; `rounds` says how many draws there are")
        for band in (self.counts, *self.bands.values()):
            if isinstance(band, Counts) and band.of < self.rounds[-1]:
                raise ValueError(f"a band of {band.of} draws, but rounds go to {self.rounds[-1]}; make them the same")
        return self


class RunOptions(Config):
    """Options for a run whose records are only counted, as in `DifficultyConfig`."""

    reward: Reward = None
    right: Right = 0.5


def measured(config: DifficultyConfig) -> list[Difficulty]:
    """Draw as `config` says and write `difficulty.parquet` next to the records; an interrupted run is resumed."""
    processes = Processes()
    with alone(Path(config.out), needed=processes.main):
        return _measured(config, processes)


def _measured(config: DifficultyConfig, processes: Processes) -> list[Difficulty]:
    out, run = Path(config.out), opened(config, processes)
    asked, before = run.samples, 0
    for total in config.rounds:
        run.drawn([Draw(sample, number) for sample in asked for number in range(before, total)])
        asked, before = _open(asked, read_records(out), run.deciding, config), total
        logger.info("after %d draws %d of %d samples are open", total, len(asked), len(run.samples))
    records = read_records(out)
    rows = tabulated(records, run.info, run.deciding, right=config.right)
    if processes.main:
        write_run(out, replace(run.info, planned=len(records)))
        write_difficulty(rows, out / FILE)
    return rows


@dataclass
class DrawnRun:
    """A run of a DrawnConfig whose `out` is open; the rewards of `deciding` decide for each task."""

    config: DrawnConfig
    split: SampleSet
    samples: list[Sample]
    suite: Suite
    info: RunInfo
    deciding: dict[str, str]
    processes: Processes
    generator: Generator | None = None

    def drawn(self, draws: Sequence[Draw]) -> list[Record]:
        """All records, once there is one of each of `draws`."""
        config, out = self.config, Path(self.config.out)
        if pending(draws, self.info, out):
            self.generator = self.generator or generator_of(config, self.samples, draws, self.info)
            shared = {"batch_size": config.batch_size, "processes": self.processes}
            evaluate(self.generator, draws, self.split, self.suite, self.info, out, **shared)
        return read_records(out)


def opened(config: DrawnConfig, processes: Processes) -> DrawnRun:
    """The run of `config`, whose `out` this process has locked, with its settings checked and no model loaded."""
    split = split_samples(config.data)
    config, samples = asking(config, split), _of_tasks(split.load(), config.tasks)
    suite, tasks = evaluation_suite(config.rewards, config.judges), {sample.task for sample in samples}
    check_scored(tasks, suite)
    info = run_info(config, split, suite, planned=0)
    deciding = deciding_rewards(tasks, info, config.reward)
    if processes.main:
        info = prepare(Path(config.out), info, suite)
    processes.wait()
    return DrawnRun(config, split, samples, suite, info, deciding, processes)


def _of_tasks(samples: list[Sample], tasks: Sequence[str] | None) -> list[Sample]:
    known = {sample.task for sample in samples}
    for task in tasks or ():
        if task not in known:
            raise InputError(f"tasks names {task!r}, which the data do not have; {nearest(task, known)}")
    return samples if tasks is None else [sample for sample in samples if sample.task in tasks]


def check_scored(tasks: set[str], suite: Suite) -> None:
    """InputError if no reward scores a task; it says how to give one, and how to leave the task out."""
    silent = [task for task, names in suite.tasks_scored(tasks).items() if not names]
    if silent:
        rest = ", ".join(sorted(tasks.difference(silent)))
        raise InputError(
            f"no reward scores the task {', '.join(silent)}: give one (rewards.{silent[0]}.fn=rouge_l), or draw the "
            f"others (tasks='[{rest}]')"
        )


def of_run(directory: Path, reward: Reward = None, right: float = 0.5) -> list[Difficulty]:
    """The difficulties of the samples in a run of `mmrl eval run`."""
    info, records = read_run(directory), read_records(directory)
    deciding = deciding_rewards({record.task for record in records}, info, reward)
    return tabulated(records, info, deciding, right=right)


def tabulated(
    records: Sequence[Record], info: RunInfo, deciding: Mapping[str, str], *, right: float
) -> list[Difficulty]:
    """One row per sample."""
    if info.protocol["blind"]:
        raise InputError("these records were made blind, without the media; they do not say how hard a sample is")
    drawn = by_item(records)
    graded = _graded(records, deciding)
    return [_row(item, draws, info, deciding, graded, right) for item, draws in drawn.items()]


def deciding_rewards(tasks: Iterable[str], info: RunInfo, given: Reward = None) -> dict[str, str]:
    """The name of the reward that decides for each task."""
    specs = info.suite["rewards"]
    known = [*specs, TOTAL]
    chosen = given if isinstance(given, dict) else {} if given is None else dict.fromkeys(tasks, given)
    for name in chosen.values():
        if name not in known:
            raise InputError(f"unknown reward {name!r} to decide on difficulty; {nearest(name, known)}")
    return {task: chosen.get(task) or _own_reward(task, specs) for task in sorted(set(tasks))}


def _own_reward(task: str, specs: Mapping[str, Any]) -> str:
    scoring = [name for name, spec in specs.items() if task in (spec["tasks"] or [task])]
    own = [name for name in scoring if specs[name]["fn"] == TASKS.get(task, OTHER).rule]
    for names in (own, scoring):
        if len(names) == 1:
            return names[0]
    scorers = ", ".join(own or scoring) or "no reward"
    raise InputError(f"task {task} is scored by {scorers}; name the one that decides, as reward: {{{task}: NAME}}")


def _open(
    samples: Sequence[Sample], records: Sequence[Record], deciding: Mapping[str, str], config: DifficultyConfig
) -> list[Sample]:
    """The samples for which more draws may still change whether they are kept."""
    drawn, graded = by_item(records), _graded(records, deciding)
    left = []
    for sample in samples:
        scores = scores_of(drawn[sample.id], deciding[sample.task])
        band = config.bands.get(sample.task, config.spread if sample.task in graded else config.counts)
        chance = TASKS.get(sample.task, OTHER).chance(sample.answer) if config.chance_corrected else 0.0
        right = sum(score >= config.right for score in scores)
        if not is_decided(band, scores, right, chance, config.confidence):
            left.append(sample)
    return left


def by_item(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each sample, by its id."""
    drawn: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        drawn[record.item_id].append(record)
    return drawn


def scores_of(draws: Iterable[Record], reward: str) -> list[float]:
    """The scores that `reward` gave the draws, without those that have none."""
    scores = (draw.total if reward == TOTAL else draw.scores.get(reward) for draw in draws)
    return [score for score in scores if score is not None]


def _graded(records: Sequence[Record], deciding: Mapping[str, str]) -> set[str]:
    """The tasks with scores between right and wrong."""
    return {
        record.task for record in records for score in scores_of([record], deciding[record.task]) if score not in (0, 1)
    }


def _row(
    item: str, draws: Sequence[Record], info: RunInfo, deciding: Mapping[str, str], graded: set[str], right: float
) -> Difficulty:
    first = draws[0]
    scores = scores_of(draws, deciding[first.task])
    mean, variance = moments(scores) if scores else (None, None)
    decoding = {name: info.protocol[name] for name in _DECODING if name in info.protocol}
    return Difficulty(
        key=asked_key(first.task, first.prompt, first.gold, first.media),
        id=item,
        task=first.task,
        source=first.source,
        reward=deciding[first.task],
        draws=len(draws),
        n=len(scores),
        right=sum(score >= right for score in scores),
        threshold=right,
        mean=mean,
        variance=variance,
        graded=first.task in graded,
        truncated=sum("truncated" in draw.flags for draw in draws),
        chance=TASKS.get(first.task, OTHER).chance(first.gold),
        model=info.model,
        sampling=json.dumps(decoding, sort_keys=True),
        protocol=info.protocol_id,
        scorer=info.scorer,
        version=str(info.suite.get("version", "")),
        split=first.split or "",
    )
