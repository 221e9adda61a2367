"""Rewards as judges of answers: how often they agree with people, and how order and length affect them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from eval.benchmarks.files import files_of, fingerprint_of, rows_of
from eval.benchmarks.load import stored_media
from eval.benchmarks.metrics import mean
from eval.benchmarks.scoring import UNREAD
from eval.metrics import Estimate, mean_estimate
from eval.preferences.items import ALL, Choice, read_choices, unique
from eval.preferences.ranking import Aggregate, aggregated, right_share
from eval.preferences.sets import SETS, PreferenceSet
from mmrl.core.config import InputError, nearest
from mmrl.core.media.item import Media
from rewards import REWARDS, Suite, Verdict

BINS = 5  # of the calibration table


def judged_preferences(
    suite: str,
    bench: Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    steps: Aggregate = "mean",
    max_unjudged: float = 0.1,
) -> dict[str, Any]:
    """The numbers of each reward of `suite` (a file or a reward's name) on the preferences in `bench`, by dimension.

    `split` is that of a dataset directory to read; all by default.

    `layout` names a published set (`eval.preferences.sets.SETS`) whose files `bench` holds; its own numbers are added.
    A reward without verdicts on more than `max_unjudged` of the items has its accuracies withheld. Solutions in steps
    are scored step by step and aggregated by `steps`.
    """
    rewards = Suite({suite: {"fn": suite}}, max_failed=1.0) if suite in REWARDS else Suite.load(suite)
    chosen = _layout(layout)
    with TemporaryDirectory() as media:
        choices, version = _read(bench, chosen, Path(media), split)
        forward, backward = (_verdicts(rewards, choices, order, steps) for order in (1, -1))
    rows, numbers = [], {}
    for name in rewards.names:
        rows += _rows(name, choices, forward[name], backward[name], chosen, max_unjudged)
        if chosen:
            pairs = zip(choices, forward[name], strict=True)
            judged = [(choice, scores) for choice, verdicts in pairs if (scores := _scores(verdicts, choice))]
            kept = len(choices) - len(judged) <= max_unjudged * len(choices)
            numbers[name] = chosen.numbers(judged) if kept else None
    return {
        "suite": suite, "bench": str(bench), "layout": layout, "version": version, "items": len(choices), "rows": rows,
        "numbers": numbers,
    }  # fmt: skip


def calibration(margins: Sequence[float], right: Sequence[float]) -> dict[str, Any]:
    """Accuracy by confidence, (1 + margin) / 2, and the expected calibration error (ECE)."""
    sure, hit = (1 + np.abs(margins)) / 2, np.asarray(right)
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    parts = [bins == b for b in sorted(set(bins.tolist()))]
    table = [
        {"confidence": float(sure[at].mean()), "accuracy": float(hit[at].mean()), "n": int(sum(at))} for at in parts
    ]
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in table) / max(len(sure), 1)
    return {"ece": float(error), "bins": table}


def _layout(name: str | None) -> PreferenceSet | None:
    if name is not None and name not in SETS:
        raise InputError(f"no layout of preferences {name!r}; {nearest(name, SETS)}")
    return SETS[name] if name else None


def _read(bench: Path, chosen: PreferenceSet | None, media: Path, split: str | None) -> tuple[list[Choice], str | None]:
    """The choices in `bench`, and the hash of its files if it is a published set."""
    if chosen is None:
        return unique(read_choices(bench, split), str(bench)), None
    if split is not None:
        raise InputError(f"split {split!r}: a published set has the splits of its files; leave it out")
    files = files_of(str(bench), None, chosen.hub, chosen.split)
    seen: dict[Any, Media] = {}
    choices = chosen.choices(
        rows_of(files, chosen.columns), lambda medium: stored_media(medium, files[0].parent, media, seen)
    )
    return unique(list(choices), str(bench)), fingerprint_of(files)


def _verdicts(suite: Suite, choices: Sequence[Choice], order: int, steps: Aggregate) -> dict[str, list[list[Verdict]]]:
    """The verdicts on the candidates of every choice by reward, asked in their order (1) or in reverse (-1)."""
    places = [(at, i) for at, choice in enumerate(choices) for i in range(len(choice.candidates))[::order]]
    rollouts = [choices[at].rollouts(i) for at, i in places]
    vectors = iter(suite.score([rollout for part in rollouts for rollout in part]))
    verdicts = {name: [[Verdict(None)] * len(c.candidates) for c in choices] for name in suite.names}
    for (at, i), part in zip(places, rollouts, strict=True):
        mine = [next(vectors) for _ in part]
        for name in suite.names:
            verdicts[name][at][i] = _whole([vector[name] for vector in mine], steps)
    return verdicts


def _whole(verdicts: Sequence[Verdict], steps: Aggregate) -> Verdict:
    """The verdict on a candidate from those on its steps; None if one is missing."""
    if len(verdicts) == 1:
        return verdicts[0]
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    if len(scores) < len(verdicts):
        return next(verdict for verdict in verdicts if verdict.score is None)
    return Verdict(aggregated(scores, steps), f"{steps} of {len(scores)} steps")


def _scores(verdicts: Sequence[Verdict], choice: Choice) -> list[float] | None:
    """The scores of the candidates, None if one has no score. If the reply of a judge of all candidates is unreadable,
    the best ones lose: this counts as wrong, not as a tie."""
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    if len(scores) < len(verdicts):
        return None
    if all(verdict.why.startswith(UNREAD) for verdict in verdicts):
        return [float(rank > 0) for rank in choice.ranks]
    return scores


def _rows(
    name: str,
    choices: Sequence[Choice],
    forward: Sequence[Sequence[Verdict]],
    backward: Sequence[Sequence[Verdict]],
    chosen: PreferenceSet | None,
    max_unjudged: float,
) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for at, choice in enumerate(choices):
        groups[ALL].append(at)
        if choice.dimension != ALL:
            groups[choice.dimension].append(at)
    return [
        {"reward": name, "dimension": dimension, **_summary([choices[i] for i in at], [forward[i] for i in at],
         [backward[i] for i in at], chosen, max_unjudged)}
        for dimension, at in groups.items()
    ]  # fmt: skip


def _summary(
    choices: Sequence[Choice],
    forward: Sequence[Sequence[Verdict]],
    backward: Sequence[Sequence[Verdict]],
    chosen: PreferenceSet | None,
    max_unjudged: float,
) -> dict[str, Any]:
    """Accuracy (a tie counts in part), the share of choices that change with the order, calibration, length bias."""
    judged = [
        (choice, scores, turned)
        for choice, ahead, back in zip(choices, forward, backward, strict=True)
        if (scores := _scores(ahead, choice)) and (turned := _scores(back, choice))
    ]
    counted = [(choice, scores) for choice, scores, _ in judged if choice.counts]
    right = [_right(scores, choice, chosen) for choice, scores in counted]
    changed = [scores.index(max(scores)) != turned.index(max(turned)) for _, scores, turned in judged]
    pairs = [(choice, scores) for choice, scores in counted if len(scores) == 2]
    margins = [scores[choice.preferred] - scores[1 - choice.preferred] for choice, scores in pairs]
    longer = [len(c.candidates[c.preferred]) - len(c.candidates[1 - c.preferred]) for c, _ in pairs]
    agrees = [(margin > 0) + 0.5 * (margin == 0) for margin in margins]
    unjudged = 1 - len(judged) / len(choices)
    estimate = mean_estimate(right, [_cluster(choice) for choice, _ in counted])
    if unjudged > max_unjudged:
        estimate = Estimate(None, None, None, None, estimate.n, estimate.clusters)
    return {
        **asdict(estimate),
        "unjudged": unjudged,
        "withheld": unjudged > max_unjudged,
        "unparsed": mean(float(all(verdict.kind == "unparsed" for verdict in verdicts)) for verdicts in forward),
        "swapped": mean(float(change) for change in changed),
        "calibration": calibration(margins, agrees) if margins else None,
        "length_correlation": _correlation(longer, margins),
        "right_if_longer": mean(v for v, gap in zip(agrees, longer, strict=True) if gap > 0),
        "right_if_shorter": mean(v for v, gap in zip(agrees, longer, strict=True) if gap < 0),
    }


def _right(scores: Sequence[float], choice: Choice, chosen: PreferenceSet | None) -> float:
    share = right_share(scores, choice.ranks)
    return float(share == 1) if chosen and chosen.strict else share


def _cluster(choice: Choice) -> str:
    """The cluster of an item: items about the same images are one observation."""
    return "+".join(sorted(media.sha256 or media.path or "" for media in choice.media)) or choice.id


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation; None if one of the two is constant."""
    if len(a) < 2 or np.std(a) == 0 or np.std(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
