"""Answers with a class in each dimension that someone labelled: what probes of a head learn and are tested on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.seeding import fraction
from eval.preferences.items import ALL, read_choices
from mmrl.core.config import InputError
from mmrl.core.text import shown
from rewards import Rollout
from rewards.rollout_files import read_rollouts

HELD_OUT = 0.3  # of the questions, where no split says which


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer, its class by dimension, and whether it is held out. Answers to one question are one `cluster`."""

    rollout: Rollout
    classes: Mapping[str, int]
    cluster: str
    held_out: bool


def labelled_answers(data: Path) -> list[LabelledAnswer]:
    """The labelled answers in `data`; InputError where there are none.

    `data` has rollouts (`rewards.rollout_files`) whose `meta.labels` gives a class in each dimension, or preferences
    (`eval.preferences.items.read_choices`): in the dimension of an item the preferred candidate is of class 1, the
    others are of class 0. Held out are those whose `meta.split` is `test`; if none has a split, 3 in 10 questions.
    """
    found = list(_of_preferences(data) if _holds_preferences(data) else _of_rollouts(data))
    if not found:
        raise InputError(f"{data} holds no labelled answers")
    split = any("split" in rollout.meta for rollout, _ in found)
    return [
        LabelledAnswer(
            rollout,
            classes,
            cluster := _question(rollout),
            rollout.meta.get("split") == "test" if split else fraction("held out", cluster) < HELD_OUT,
        )
        for rollout, classes in found
    ]


def _holds_preferences(data: Path) -> bool:
    """Whether `data` is a dataset directory, or a file whose first line has candidates."""
    if data.is_dir():
        return (data / "shards").is_dir()
    if not data.is_file():
        raise InputError(f"no labelled answers at {data}: expected a dataset directory, a run, or a JSONL file")
    with data.open("rb") as lines:
        try:
            first = json.loads(lines.readline())
        except ValueError:  # empty, or no JSON, which `read_rollouts` tells
            return False
    return isinstance(first, dict) and "candidates" in first


def _of_preferences(data: Path) -> Iterator[tuple[Rollout, Mapping[str, int]]]:
    for choice in read_choices(data):
        for number, rank in enumerate(choice.ranks):
            yield choice.rollouts(number)[-1], {choice.dimension: int(rank == 0)}


def _of_rollouts(data: Path) -> Iterator[tuple[Rollout, Mapping[str, int]]]:
    for name, rollout in read_rollouts(data):
        labels: Any = rollout.meta.get("labels")
        if not isinstance(labels, dict) or not labels or not all(type(label) is int for label in labels.values()):
            raise InputError(
                f"{data}: answer {name!r:.80} has the meta.labels {shown(labels)}; wanted the number of a class in "
                'each dimension, such as {"helpful": 2, "polite": 0}'
            )
        if ALL in labels:
            raise InputError(f"{data}: answer {name!r:.80} has the dimension {ALL!r}, which stands for all of them")
        yield rollout, labels


def _question(rollout: Rollout) -> str:
    shown_media = [media.sha256 or media.path or "" for media in rollout.media]
    return json.dumps([rollout.prompt, shown_media], sort_keys=True, default=str)
