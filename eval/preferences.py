"""Rewards as judges of answers: how often a reward prefers what people prefer, and what else moves it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_engine.schema import Media
from data_engine.shards import read_samples
from eval.metrics import mean_estimate
from mmrl.config import InputError
from rewards import REWARDS, Rollout, Suite

BINS = 5  # of the calibration table
ALL = "all"


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers to one prompt, the one that people prefer, and the dimension that the item tests."""

    id: str
    prompt: Any
    candidates: tuple[str, ...]
    preferred: int
    dimension: str = ALL
    task: str = "preference"
    answer: Any = None
    media: tuple[Media, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


def judged_preferences(suite: str, bench: Path) -> dict[str, Any]:
    """How each reward of `suite` (a file or a reward's name) does on the preferences in `bench`, by dimension."""
    choices = read_choices(bench)
    rewards = Suite({suite: {"fn": suite}}, max_failed=1.0) if suite in REWARDS else Suite.load(suite)
    forward, backward = (_scores(rewards, choices, order) for order in (1, -1))
    rows = []
    for name in rewards.names:
        rows += _rows(name, choices, forward[name], backward[name])
    return {"suite": suite, "bench": str(bench), "items": len(choices), "rows": rows}


def read_choices(bench: Path) -> list[Choice]:
    """The preferences of a dataset directory (samples of the task `preference`) or of a JSONL file.

    A line holds `prompt`, `candidates` and `preferred` (an index), and perhaps `id`, `dimension`, `media` (paths of
    pictures), and `task` and `answer` for rewards that need them.
    """
    if bench.is_dir():
        samples = [sample for sample in read_samples(bench) if sample.task == "preference"]
        if not samples:
            raise InputError(f"{bench} holds no sample of the task preference")
        return [
            Choice(
                s.id, s.prompt, tuple(s.answer["candidates"]), s.answer["preferred"],
                str(s.meta.get("dimension", ALL)), media=s.media, meta=s.meta,
            )
            for s in samples
        ]  # fmt: skip
    if not bench.is_file():
        raise InputError(f"no preferences at {bench}: expected a dataset directory or a JSONL file")
    choices = [_choice(line, f"{bench} line {number}") for number, line in enumerate(bench.open("rb"), 1)]
    if len({choice.id for choice in choices}) < len(choices):
        raise InputError(f"{bench}: an id occurs twice; ids must differ")
    return choices


def right_share(scores: Sequence[float], preferred: int) -> float:
    """1 / m if the preferred answer is among the m of largest score, else 0.

    >>> [right_share(scores, 0) for scores in ([3, 1, 2, 3], [3, 3, 3, 3], [2, 3, 1, 1])]
    [0.5, 0.25, 0.0]
    """
    top = max(scores)
    return 1 / list(scores).count(top) if scores[preferred] == top else 0.0


def calibration(margins: Sequence[float], right: Sequence[float]) -> dict[str, Any]:
    """Accuracy by how sure the reward is, (1 + margin) / 2, and the expected error of that as a probability (ECE)."""
    sure, hit = (1 + np.abs(margins)) / 2, np.asarray(right)
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    table = [
        {
            "confidence": float(sure[bins == b].mean()),
            "accuracy": float(hit[bins == b].mean()),
            "n": int(sum(bins == b)),
        }
        for b in sorted(set(bins.tolist()))
    ]
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in table) / max(len(sure), 1)
    return {"ece": float(error), "bins": table}


def _choice(line: bytes, where: str) -> Choice:
    wanted = 'expected {"prompt": ..., "candidates": ["...", "..."], "preferred": 0}'
    try:
        row = json.loads(line)
        candidates, preferred = tuple(row["candidates"]), row["preferred"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: {wanted} ({type(error).__name__}: {error})") from None
    if len(candidates) < 2 or not all(isinstance(one, str) for one in candidates):
        raise InputError(f"{where}: {wanted}, got candidates {candidates!r:.100}")
    if not isinstance(preferred, int) or not 0 <= preferred < len(candidates):
        raise InputError(f"{where}: preferred {preferred!r} is no index of {len(candidates)} candidates")
    media = tuple(Media("image", path) for path in row.get("media", ()))
    return Choice(
        str(row.get("id", where)), row.get("prompt"), candidates, preferred, str(row.get("dimension", ALL)),
        row.get("task", "preference"), row.get("answer"), media,
    )  # fmt: skip


def _scores(suite: Suite, choices: Sequence[Choice], order: int) -> dict[str, list[list[float | None]]]:
    """The scores of the candidates of every choice by reward, asked for in their order (1) or from the last (-1)."""
    rollouts = [
        Rollout(text, c.answer, c.task, c.prompt, c.media, meta=c.meta, group=c.id)
        for c in choices
        for text in c.candidates[::order]
    ]
    vectors = iter(suite.score(rollouts))
    scores: dict[str, list[list[float | None]]] = {name: [] for name in suite.names}
    for choice in choices:
        mine = [next(vectors) for _ in choice.candidates][::order]
        for name in suite.names:
            scores[name].append([vector[name].score for vector in mine])
    return scores


def _rows(
    name: str,
    choices: Sequence[Choice],
    forward: Sequence[Sequence[float | None]],
    backward: Sequence[Sequence[float | None]],
) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for at, choice in enumerate(choices):
        groups[ALL].append(at)
        if choice.dimension != ALL:
            groups[choice.dimension].append(at)
    return [
        {"reward": name, "dimension": dimension, **_summary([choices[i] for i in at], [forward[i] for i in at],
         [backward[i] for i in at])}
        for dimension, at in groups.items()
    ]  # fmt: skip


def _summary(
    choices: Sequence[Choice], forward: Sequence[Sequence[float | None]], backward: Sequence[Sequence[float | None]]
) -> dict[str, Any]:
    """Accuracy, with ties shared out; how often the order of the candidates decides; calibration; length bias."""
    judged = [
        (choice, [float(s) for s in one if s is not None], [float(s) for s in two if s is not None])
        for choice, one, two in zip(choices, forward, backward, strict=True)
        if None not in one and None not in two
    ]
    right = [right_share(one, choice.preferred) for choice, one, _ in judged]
    changed = [one.index(max(one)) != two.index(max(two)) for _, one, two in judged]
    pairs = [(choice, one) for choice, one, _ in judged if len(one) == 2]
    margins = [one[choice.preferred] - one[1 - choice.preferred] for choice, one in pairs]
    longer = [len(c.candidates[c.preferred]) - len(c.candidates[1 - c.preferred]) for c, _ in pairs]
    verdicts = [(margin > 0) + 0.5 * (margin == 0) for margin in margins]
    estimate = mean_estimate(right, [choice.id for choice, _, _ in judged])
    return {
        **asdict(estimate),
        "unjudged": 1 - len(judged) / len(choices),
        "swapped": sum(changed) / len(changed) if changed else None,
        "calibration": calibration(margins, verdicts) if margins else None,
        "length_correlation": _correlation(longer, margins),
        "right_if_longer": _mean([v for v, gap in zip(verdicts, longer, strict=True) if gap > 0]),
        "right_if_shorter": _mean([v for v, gap in zip(verdicts, longer, strict=True) if gap < 0]),
    }


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one of the two is constant."""
    if len(a) < 2 or np.std(a) == 0 or np.std(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
