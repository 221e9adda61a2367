"""Operators that choose and order samples by their difficulty for a model, as measured in a difficulty file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationInfo

from data_engine.measure.bands import Band, Counts, Spread, corrected, odds
from data_engine.measure.difficulty_table import Difficulty, check_difficulty, key_of, read_difficulty
from data_engine.measure.measures import is_number, with_measure
from data_engine.operator import Dropped, Existing, Spool, Task, stream, traits
from data_engine.schema import Sample
from data_engine.seeding import digest
from mmrl.core.config import InputError

NOTED = "difficulty"  # the key of meta
DIGITS = 4  # after the point: what is noted is read by people
SIDES = {"below": "too_hard", "above": "too_easy"}

Share = Annotated[float, Field(ge=0, le=1)]


def _table(file: Path, about: ValidationInfo) -> Path:
    check_difficulty(about.data.get("root", Path()) / file)
    return file


@stream
def difficulty(
    samples: Iterator[Sample],
    *,
    file: Annotated[Existing, AfterValidator(_table)],
    counts: Counts | None = None,
    spread: Spread | None = None,
    bands: dict[Task, Band] | None = None,
    chance_corrected: bool = True,
    max_truncated: Share = 1.0,
    levels: tuple[Share, Share] = (0.3, 0.7),
    missing: Literal["drop", "keep", "fail"] = "drop",
    root: Path = Path(),
) -> Iterator[Sample | Dropped]:
    """Keep the samples within a band of difficulty, and write what `file` says of each to `meta["difficulty"]`.

    `counts` bounds the number of right answers where scores are 0 or 1; `spread` bounds the variance of graded scores;
    `bands` (task -> one of the two) comes before both. A task without a band only gets the note. `levels`: a sample is
    hard where its rate is below the first value, and easy from the second on; with `chance_corrected` the share of
    lucky guesses is taken out of the rate. `max_truncated`: where more of the draws hit the token limit, the score says
    little. `missing`: what to do with samples that the file lacks: drop, keep or fail. Samples of a split in which
    nothing was measured pass: a test split stays as it is.
    """
    known = read_difficulty(root / file)
    splits = {row.split for row in known.values()}
    for sample in samples:
        row = known.get(key_of(sample))
        if row is None:
            if "" not in splits and (own := sample.meta.get("split")) and own not in splits:
                yield sample
                continue
            if missing == "fail":
                raise InputError(f"{file} has no row for sample {sample.id} of {sample.source}; measure it, or drop")
            yield sample if missing == "keep" else Dropped(sample, "no_difficulty")
            continue
        band = (bands or {}).get(sample.task, spread if row.graded else counts)
        note = _note(row, levels)
        noted_sample = with_measure(replace(sample, meta={**sample.meta, NOTED: note}), "rate", note.get("rate"))
        reason = _reason(row, band, max_truncated, chance_corrected=chance_corrected)
        yield Dropped(noted_sample, reason) if reason else noted_sample


@traits(counts=True)
@stream
def by_reward(
    samples: Iterator[Sample],
    *,
    n: PositiveInt,
    keep: Literal["lowest", "middle", "highest"] = "lowest",
    per_task: bool = False,
    seed: int = 0,
) -> Iterator[Sample | Dropped]:
    """Keep the `n` samples (with `per_task`: of each task) with the lowest mean reward, in their order.

    `keep: middle` and `keep: highest` are the controls of BLEUBERI (2505.11080), which keeps the 5,000 of 50,000
    samples on which a base model's BLEU is lowest. The mean is the one that `difficulty` noted, of any reward.
    """
    spool = Spool()
    groups: dict[str, list[tuple[float, str, int]]] = defaultdict(list)
    for index, sample in enumerate(samples):
        spool.add(sample)
        mean = _mean(sample)
        if mean is not None:
            groups[sample.task if per_task else ""].append((mean, digest("by_reward", seed, sample.id), index))
    if not groups:
        raise InputError(
            "by_reward needs the notes of the operator difficulty, and no sample has one; put difficulty before it"
        )
    chosen = {index for group in groups.values() for *_, index in _stretch(sorted(group), n, keep)}
    for index, sample in enumerate(spool):
        yield sample if index in chosen else Dropped(sample, f"not_{keep}_reward")


@traits(orders=True)
@stream
def curriculum(
    samples: Iterator[Sample], *, first: Literal["easy", "hard"] = "easy", steps: PositiveInt = 10, seed: int = 0
) -> Iterator[Sample]:
    """Order all samples by mean reward, the `first` ones easy or hard, in `steps` stretches of mixed order.

    Means of different tasks do not compare, so each task is spread over the whole order by rank. Samples without a note
    are placed at random. Train on the result without shuffling.
    """
    spool, groups = Spool(), defaultdict[str, list[tuple[float, str, int]]](list)
    places: list[tuple[float, str]] = []
    for index, sample in enumerate(samples):
        spool.add(sample)
        drawn, mean = digest("curriculum", seed, sample.id), _mean(sample)
        places.append((int(drawn[:8], 16) / 16**8, drawn))
        if mean is not None:
            groups[sample.task].append((-mean if first == "easy" else mean, drawn, index))
    for group in groups.values():
        for rank, (_, drawn, index) in enumerate(sorted(group)):
            places[index] = ((rank + 0.5) / len(group), drawn)
    order = sorted(range(len(places)), key=lambda index: (int(places[index][0] * steps), places[index][1]))
    yield from spool.read(order)


def noted(sample: Sample) -> Mapping[str, Any]:
    """The note that `difficulty` wrote to a sample; empty if there is none, or if the source used that key for
    something else."""
    note = sample.meta.get(NOTED)
    return note if isinstance(note, Mapping) else {}


def _mean(sample: Sample) -> float | None:
    mean = noted(sample).get("mean")
    return mean if is_number(mean) else None


def _note(row: Difficulty, levels: tuple[float, float]) -> dict[str, Any]:
    note: dict[str, Any] = {"n": row.n, "right": row.right, "model": row.model, "reward": row.reward}
    if row.mean is None or row.variance is None:
        return note
    rate = row.mean if row.graded else corrected(row.right / row.n, row.chance)
    level = "hard" if rate < levels[0] else "medium" if rate < levels[1] else "easy"
    numbers = {"mean": row.mean, "variance": row.variance, "rate": rate}
    return note | {name: round(value, DIGITS) for name, value in numbers.items()} | {"level": level}


def _reason(row: Difficulty, band: Band | None, max_truncated: float, *, chance_corrected: bool) -> str | None:
    """Why a sample is not within its band."""
    if row.mean is None or row.variance is None:
        return "unscored"
    if row.truncated > max_truncated * row.draws:
        return "truncated"
    if isinstance(band, Spread):
        return _outside(row.mean, row.variance, band)
    if band is None:
        return None
    side = odds(row.right, row.n, band, row.chance if chance_corrected else 0.0).likeliest
    if side == "below" and chance_corrected and odds(row.right, row.n, band).likeliest != "below":
        return "guessed"
    return SIDES.get(side)


def _outside(mean: float, variance: float, band: Spread) -> str | None:
    bounds = (
        ("too_hard", band.low, mean),
        ("too_easy", mean, band.high),
        ("too_even", band.least, variance),
        ("too_varied", variance, band.most),
    )
    return next((why for why, low, high in bounds if low is not None and high is not None and low > high), None)


def _stretch(ordered: list[Any], n: int, keep: str) -> list[Any]:
    start = {"lowest": 0, "middle": (len(ordered) - n) // 2, "highest": len(ordered) - n}[keep]
    return ordered[max(start, 0) : max(start, 0) + n]
