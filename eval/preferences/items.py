"""Preferences: answers to one prompt with their ranks by people, and how they are read from JSONL or a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_engine.dataset.pairs import candidates_of, picture_pairs
from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.text import shown
from rewards import Rollout

ALL = "all"  # the dimension of items without one


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers to one prompt and their ranks, 0 the best; equal ranks are ties.

    `edits` are images, one for each candidate; they follow `media`. `steps` are the steps of each candidate, for
    rewards that score a solution step by step. An item with `counts` false has no best answer.
    """

    id: str
    prompt: Any
    candidates: tuple[str, ...]
    ranks: tuple[int, ...]
    dimension: str = ALL
    task: str = "preference"
    answer: Any = None
    media: tuple[Media, ...] = ()
    edits: tuple[Media, ...] = ()
    steps: tuple[tuple[str, ...], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = True

    @property
    def preferred(self) -> int:
        """The first of the best."""
        return self.ranks.index(min(self.ranks))

    def rollouts(self, candidate: int) -> list[Rollout]:
        """The rollouts of a candidate: its text, or each beginning of it that ends with a step."""
        made = self.edits[candidate : candidate + 1]
        texts = [self.candidates[candidate]]
        if self.steps:
            parts = self.steps[candidate]
            texts = ["\n".join(parts[: end + 1]) for end in range(len(parts))]
        return [
            Rollout(text, self.answer, self.task, self.prompt, self.media, meta=self.meta, group=self.id, made=made)
            for text in texts
        ]


def ranked(preferred: int, count: int) -> tuple[int, ...]:
    """The ranks of `count` candidates of which one is preferred to the others.

    >>> ranked(1, 3)
    (1, 0, 1)
    """
    return tuple(int(i != preferred) for i in range(count))


def read_choices(bench: Path, split: str | None = None) -> list[Choice]:
    """The preferences of a dataset directory (samples of the task `preference`), perhaps of one split, or of a JSONL
    file.

    Two samples with a `meta.pair` are a choice between two pictures, in the dimension `meta.fault`.

    A line holds `prompt`, `candidates` and `preferred` (an index), and perhaps `id`, `dimension`, `media` (paths of
    pictures), and `task` and `answer` for rewards that need them.
    """
    if bench.is_dir():
        samples = [sample for sample in read_samples(bench, split=split) if sample.task == "preference"]
        if not samples:
            raise InputError(f"{bench} holds no sample of the task preference")
        pairs = picture_pairs([sample for sample in samples if "pair" in sample.meta])
        return [_of_pictures(*pair) for pair in pairs] + [_of_sample(s) for s in samples if "pair" not in s.meta]
    if split is not None:
        raise InputError(f"{bench} is no dataset directory, so it has no split {split!r}")
    if not bench.is_file():
        raise InputError(f"no preferences at {bench}: expected a dataset directory or a JSONL file")
    with bench.open("rb") as lines:
        return [_choice(line, f"{bench} line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def unique(choices: Sequence[Choice], where: str) -> list[Choice]:
    """The choices; InputError if there are none or if ids repeat."""
    if not choices:
        raise InputError(f"{where} holds no preferences")
    seen: set[str] = set()
    for choice in choices:
        if choice.id in seen:
            raise InputError(f"{where}: the id {choice.id!r} occurs twice; ids must differ")
        seen.add(choice.id)
    return list(choices)


def _of_sample(sample: Sample) -> Choice:
    candidates = candidates_of(sample.answer, f"sample {sample.id}")
    return Choice(
        sample.id, sample.prompt, tuple(candidates), ranked(sample.answer["preferred"], len(candidates)),
        str(sample.meta.get("dimension", ALL)), media=sample.media, meta=sample.meta,
    )  # fmt: skip


def _of_pictures(better: Sample, other: Sample) -> Choice:
    """A choice between two pictures; its dimension is the fault of the other one."""
    return Choice(
        str(better.meta["pair"]), better.prompt, ("", ""), (0, 1),
        str(better.meta.get("dimension", better.meta.get("fault", ALL))), "edit", better.answer,
        better.media[:-1], (better.media[-1], other.media[-1]), meta=better.meta,
    )  # fmt: skip


def _choice(line: bytes, where: str) -> Choice:
    wanted = 'expected {"prompt": ..., "candidates": ["...", "..."], "preferred": 0}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {wanted} ({type(error).__name__}: {error})") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: {wanted}, got {shown(row)}")
    candidates, media = candidates_of(row, where), row.get("media") or []
    if not isinstance(media, list) or not all(isinstance(path, str) for path in media):
        raise InputError(f"{where}: media must be a list of paths of pictures, got {shown(media)}")
    return Choice(
        str(row.get("id", where)), row.get("prompt"), tuple(candidates), ranked(row["preferred"], len(candidates)),
        str(row.get("dimension", ALL)), row.get("task", "preference"), row.get("answer"),
        tuple(Media("image", path) for path in media),
    )  # fmt: skip
