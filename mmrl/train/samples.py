"""The samples that a stage of a training learns from."""

from __future__ import annotations

from data_engine.schema import Sample
from mmrl.train.config import TrainConfig, TrainingSplit
from mmrl.trainers.dataset import training_samples
from mmrl.trainers.preferences import as_pairs


def split_of(config: TrainConfig, stage: str) -> TrainingSplit:
    """Where the samples of a stage are; those of `dpo` are in the data if the config does not say."""
    if stage == "dpo" and config.preferences is not None:
        return config.preferences
    return TrainingSplit(path=config.data, split=config.split, limit=config.limit)


def stage_samples(config: TrainConfig, stage: str) -> list[Sample]:
    """The samples of a stage; those of `dpo` are pairs (`mmrl.trainers.preferences`)."""
    given = split_of(config, stage)
    samples = training_samples(given.path, given.split, given.limit, config.task)
    return as_pairs(samples) if stage == "dpo" else samples
