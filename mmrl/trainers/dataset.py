"""A dataset directory as the trainers need it: rows with the prompt, its media, the gold answer and the task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from data_engine.dataset.plain import plain_samples
from data_engine.dataset.shards import is_plain, read_samples, with_own_ids
from data_engine.ops.quotas import times_shown
from data_engine.schema import Sample, from_row, to_row
from mmrl.core.config import InputError
from mmrl.core.media.files import check_unchanged


def training_samples(
    directory: str | Path, split: str | None = None, limit: int | None = None, task: str | None = None
) -> list[Sample]:
    """The first `limit` samples of `split` in a dataset directory built by `mmrl data build`, or in a plain table.

    A sample that the recipe repeats occurs several times. `task` is that of rows of a table that do not name theirs.
    """
    place = Path(directory)
    read = plain_samples(place, task, split) if is_plain(place) else read_samples(place, split=split)
    distinct = with_own_ids(read, directory)
    repeated = (sample for sample in distinct for _ in range(times_shown(sample)))
    samples = list(islice(repeated, limit))
    if not samples:
        raise InputError(f"no samples of the split {split!r} in {directory}")
    return samples


def gold_keys(samples: Iterable[Sample]) -> dict[str, set[str]]:
    """The tasks of the samples, sorted, each with the keys of its golds that hold something."""
    keys: dict[str, set[str]] = {}
    for sample in samples:
        held = {name for name, value in sample.answer.items() if value not in (None, "", [], {})}
        keys.setdefault(sample.task, set()).update(held)
    return dict(sorted(keys.items()))


def as_dataset(samples: Iterable[Sample]) -> Dataset:
    """Samples as rows `{"id", "prompt", "media", "answer", "task", "meta"}`; media stay on disk until they are encoded.

    There are no columns `image` and `images` on purpose: TRL would decode and copy them for every rollout.
    """
    return Dataset.from_list([to_row(sample) for sample in samples]).with_transform(decoded)


def decoded(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows as the trainers take them; InputError for media that were replaced since the dataset was built."""
    samples = [from_row(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
    for sample in samples:
        check_unchanged(sample.media)
    return {
        "id": [sample.id for sample in samples],
        "prompt": [sample.prompt for sample in samples],
        "media": [sample.media for sample in samples],
        "answer": [sample.answer for sample in samples],
        "task": [sample.task for sample in samples],
        "meta": [dict(sample.meta) for sample in samples],
    }
