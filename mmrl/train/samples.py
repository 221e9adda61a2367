"""The samples that a stage of a training learns from."""

from __future__ import annotations

from data_engine.schema import Sample
from mmrl.train.config import PREFERRING, HeadKind, TrainConfig, TrainingSplit
from mmrl.trainers.dataset import training_samples
from mmrl.trainers.preferences import as_pairs, of_one_turn, ranked_pairs, rankings, relabelled, with_step_scores


def split_of(config: TrainConfig, stage: str) -> TrainingSplit:
    """Where the samples of a stage are; preferences are in the data if the config does not say."""
    if stage in PREFERRING and config.preferences is not None:
        return config.preferences
    return TrainingSplit(path=config.data, split=config.split, limit=config.limit)


def stage_samples(config: TrainConfig, stage: str) -> list[Sample]:
    """The samples of a stage; those of `dpo` and `reward` are made of preferences."""
    given = split_of(config, stage)
    samples = training_samples(given.path, given.split, given.limit, config.task)
    if stage == "reward":
        return judged(samples, config.head.kind, config.head.margin)
    if stage == "dpo":
        samples = of_one_turn(samples)
        return relabelled(samples) if config.preferences and config.preferences.relabel else as_pairs(samples)
    return samples


def held_out_samples(config: TrainConfig) -> list[Sample]:
    """What the stage `reward` is evaluated on."""
    given = config.head.held_out or split_of(config, "reward").model_copy(update={"split": "test", "limit": None})
    return judged(training_samples(given.path, given.split, given.limit), config.head.kind)


def judged(samples: list[Sample], kind: HeadKind, margin: float = 0.0) -> list[Sample]:
    """What a head of this kind learns from: pairs, whole rankings, or answers with scored steps."""
    if kind == "scalar":
        return ranked_pairs(samples, margin)
    return rankings(samples) if kind == "multi_response" else with_step_scores(samples)
