"""The samples of an evaluation: a named and versioned set of samples, such as the split of a dataset."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import PositiveInt

from data_engine.dataset.shards import prompt_of, read_manifest, read_samples, with_own_ids
from data_engine.schema import Sample
from mmrl.core.config import Config
from rewards.prompt_form import PLAIN, PromptForm

logger = logging.getLogger(__name__)


class DatasetSplit(Config):
    """A split of a dataset directory. `limit` takes so many samples of each task, those with the smallest ids, whatever
    the order of the rows. In training it takes the first rows (`TrainingSplit`)."""

    path: str
    split: str = "test"
    limit: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class SampleSet:
    """The samples of a run. Another question, selection rule or revision of the data is another `version`. `prompt` is
    how they are asked where the run does not say."""

    name: str
    version: str
    split: str
    load: Callable[[], list[Sample]]
    prompt: PromptForm = PLAIN


def split_samples(data: DatasetSplit) -> SampleSet:
    """The samples of a split of a dataset directory; their version is the hash of the split's shards."""
    directory = Path(data.path).resolve()
    shards = [shard["sha256"] for shard in read_manifest(directory)["shards"] if shard["split"] == data.split]
    version = hashlib.sha256("".join(shards).encode()).hexdigest()[:16]
    load = partial(read_samples, directory, split=data.split)
    return SampleSet(
        directory.name,
        version,
        data.split,
        lambda: selected(with_own_ids(load(), directory), data.limit),
        prompt_of(directory),
    )


def selected(samples: Iterable[Sample], limit: int | None) -> list[Sample]:
    """Up to `limit` samples of each task, those with the smallest ids, sorted by id.

    Ids are content hashes: the selection is a fixed random one that does not depend on the order of rows, and a smaller
    limit selects a subset.
    """
    by_task: dict[str, dict[str, Sample]] = defaultdict(dict)
    repeated = 0
    for sample in samples:
        repeated += sample.id in by_task[sample.task]
        by_task[sample.task][sample.id] = sample
    if repeated:
        logger.warning("%d samples repeat the id of another and are evaluated once", repeated)
    chosen = [sample for task in by_task.values() for sample in sorted(task.values(), key=lambda s: s.id)[:limit]]
    return sorted(chosen, key=lambda sample: sample.id)
