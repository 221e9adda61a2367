"""Operators that find repeated samples: exact ones and near ones."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from typing import Annotated

from pydantic import Field

from data_engine.operator import Dropped, Spool, stream
from data_engine.schema import Sample
from data_engine.seeding import digest
from data_engine.similar.common_runs import CommonRuns
from data_engine.similar.image_hash import MediaIndex, fingerprint, pixel_hash
from data_engine.similar.minhash import TextIndex
from data_engine.words import numbers
from mmrl.core.canonical_json import dumps
from mmrl.core.media.item import Media
from mmrl.core.messages import prompt_text
from rewards.tasks.table import OTHER, TASKS

Share = Annotated[float, Field(gt=0, le=1)]

RECENT = 256  # media whose pixels are remembered: samples about one picture stand together
PLACED = ("boxes", "points")  # answers that move with the size of the picture
NEAR = 0.02  # of a side, by which boxes and points of copies may differ: they are rounded, and pictures are cropped


@stream
def exact_duplicates(samples: Iterator[Sample], *, pixels: bool = False) -> Iterator[Sample | Dropped]:
    """Keep the first of the samples that ask the same question about the same media.

    Media are the same if their bytes are; with `pixels`, if their decoded pictures are, which decodes each once more. A
    repeat with another answer is counted apart, because two sources contradict each other.
    """
    first: dict[str, tuple[str, str]] = {}  # question -> (answer, id)
    decoded = functools.lru_cache(maxsize=RECENT)(pixel_hash)
    for sample in samples:
        items = [[decoded(media) if pixels else media.sha256, media.start, media.end] for media in sample.media]
        question, answer = digest(dumps([items, sample.prompt])), digest(dumps(sample.answer))
        if question not in first:
            first[question] = (answer, sample.id)
            yield sample
        else:
            known, like = first[question]
            yield Dropped(sample, "duplicate" if known == answer else "duplicate_with_another_answer", like)


@stream
def near_duplicates(samples: Iterator[Sample], *, text: Share = 0.8) -> Iterator[Sample | Dropped]:
    """Keep the first of the samples that ask nearly the same about media that look the same, and have the same answer.

    Two questions are nearly the same if they name the same numbers and share at least `text` of their word triples.
    Runs of words that nearly all samples of a source and task share, as an instruction, do not count. Boxes and points
    are the same if they lie at the same place of their pictures, to 2 % of its sides. The sides of a pair (`meta.pair`)
    are kept: a pair shows nearly the same twice, and without one side it says nothing.
    """
    spool, common = Spool(), CommonRuns()
    for sample in samples:
        spool.add(sample)
        common.add(prompt_text(sample.prompt), (sample.source, sample.task))
    media, texts, kept = _LooksAlike(), TextIndex(text), list[tuple[str, _Places]]()
    for sample in spool:
        if sample.meta.get("pair") is not None:
            yield sample
            continue
        question, places = prompt_text(sample.prompt), _places(sample)
        answer = digest(dumps({name: value for name, value in sample.answer.items() if name not in places}))
        key = (sample.task, answer, numbers(question), tuple(map(media.group, sample.media)))
        sketch = texts.sketch(common.without(question, (sample.source, sample.task)), key)
        same = (kept[place] for place in texts.matches(sketch, text))
        if like := next((name for name, others in same if _coincide(places, others)), None):
            yield Dropped(sample, "near_duplicate", like)
        else:
            texts.add(sketch)
            kept.append((sample.id, places))
            yield sample


_Places = dict[str, list[list[float]]]  # boxes and points as shares of their picture


def _places(sample: Sample) -> _Places:
    """The boxes and points of an answer that is made of them, as shares of the first picture; pixels without a size."""
    if TASKS.get(sample.task, OTHER).regions not in PLACED:
        return {}
    width, height = (sample.media[0].width, sample.media[0].height) if sample.media else (None, None)
    sides = (width or 1, height or 1)
    return {
        name: [[side / sides[at % 2] for at, side in enumerate(row)] for row in sample.answer[name]]
        for name in PLACED
        if sample.answer.get(name)
    }


def _coincide(places: _Places, others: _Places) -> bool:
    """Whether two answers name the same places, in the same order."""
    return places.keys() == others.keys() and all(
        len(rows) == len(others[name])
        and all(
            abs(a - b) <= NEAR
            for row, other in zip(rows, others[name], strict=True)
            for a, b in zip(row, other, strict=True)
        )
        for name, rows in places.items()
    )


class _LooksAlike:
    """Media in groups: each joins the group of the nearest one before it, or begins a new group."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Hashable] = {}
        self._indices: dict[Hashable, MediaIndex] = {}

    def group(self, media: Media) -> Hashable:
        """The group of an image or video; those that look alike have the same one."""
        name = (media.kind, media.sha256, media.start, media.end)
        if name not in self._known:
            hashes = fingerprint(media)
            index = self._indices.setdefault(media.kind, MediaIndex(len(hashes.phash)))
            places = index.matches(hashes)
            self._known[name] = (media.kind, places[0] if places else index.add(hashes))
        return self._known[name]
