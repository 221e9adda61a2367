"""The samples that a stage of a training learns from."""

from __future__ import annotations

from data_engine.schema import Sample
from mmrl.train.config import PREFERRING, TrainConfig, TrainingSplit
from mmrl.trainers.dataset import training_samples
from mmrl.trainers.preferences import as_pairs, ranked_pairs, relabelled


def split_of(config: TrainConfig, stage: str) -> TrainingSplit:
    """Where the samples of a stage are; preferences are in the data if the config does not say."""
    if stage in PREFERRING and config.preferences is not None:
        return config.preferences
    return TrainingSplit(path=config.data, split=config.split, limit=config.limit)


def stage_samples(config: TrainConfig, stage: str) -> list[Sample]:
    """The samples of a stage; those of `dpo` and `reward` are pairs (`mmrl.trainers.preferences`)."""
    given = split_of(config, stage)
    samples = training_samples(given.path, given.split, given.limit, config.task)
    if stage == "reward":
        return ranked_pairs(samples, config.head.margin)
    if stage == "dpo":
        return relabelled(samples) if config.preferences and config.preferences.relabel else as_pairs(samples)
    return samples


def held_out_pairs(config: TrainConfig) -> list[Sample]:
    """The pairs on which the stage `reward` is evaluated."""
    given = config.head.held_out or split_of(config, "reward").model_copy(update={"split": "test", "limit": None})
    return ranked_pairs(training_samples(given.path, given.split, given.limit))
