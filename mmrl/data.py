"""A dataset directory as the trainers take it: rows with the prompt, its media, the gold answer and the task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from data_engine.schema import Sample
from data_engine.shards import read_samples
from mmrl.config import InputError


class SampleDataset(Dataset[dict[str, Any]]):
    """Samples as rows `{"id", "prompt", "media", "answer", "task", "meta"}`; media stay on disk until they are encoded.

    The columns `image` and `images` are avoided on purpose: TRL would decode and copy them for every rollout.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)
        if not self.samples:
            raise InputError("the training set is empty; check the split and the task names")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        return {
            "id": sample.id,
            "prompt": sample.prompt,
            "media": sample.media,
            "answer": sample.answer,
            "task": sample.task,
            "meta": dict(sample.meta),
        }

    @property
    def tasks(self) -> list[str]:
        """The tasks that occur, sorted."""
        return sorted({sample.task for sample in self.samples})


def training_set(directory: str | Path, split: str | None = None, limit: int | None = None) -> SampleDataset:
    """The samples of `split` in a dataset directory built by `mmrl data build`, the first `limit` of them."""
    samples = list(read_samples(Path(directory), split=split))
    return SampleDataset(samples[:limit])
