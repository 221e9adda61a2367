"""A run: the draws of a benchmark, answered, scored and written down batch by batch; what is there is not done again."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.progress import track

from data_engine.schema import Media, Sample
from eval.benchmark import Benchmark, Data, Draw, Sampling, batches, dataset_benchmark
from eval.records import (
    RECORDS,
    RUN,
    Record,
    RecordWriter,
    RunInfo,
    content_key,
    digest,
    read_records,
    read_run,
    replace_records,
    write_run,
)
from eval.score import scored, suite_identity
from mmrl.config import Config, InputError
from mmrl.vision import CoordinateSpace, Size, VisionBudget
from rewards import RewardSpec, Suite

logger = logging.getLogger(__name__)


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
    max_unjudged: float = Field(0.1, ge=0, le=1)


class Generation(Protocol):
    """What a generator gives for a draw; `eval.generate.Generation` is one."""

    @property
    def response(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def seen_size(self) -> Sequence[Size]: ...


class Generator(Protocol):
    """What answers draws; `eval.generate.LocalGenerator` is one."""

    blind: bool

    def __call__(self, draws: Sequence[Draw]) -> Sequence[Generation]: ...
    def cost(self, sample: Sample) -> int: ...
