"""Scores at the ends of the steps of an answer, by a head that has learned them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from mmrl.core.config import InputError
from rewards.base import Rollout, Span, Verdict, unparsed
from rewards.heads.reward_model import Batch, Finite, ModelName, Scale, squashed
from rewards.judged.self_hallucination import stretches


def process_model(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    reduce: Literal["mean", "min", "last"] = "mean",
    after: str = "",
    center: Finite = 0.0,
    scale: Scale = 1.0,
    batch: Batch = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """sigmoid((raw - center) / scale) at the end of each step; of these `reduce` takes the `mean`, `min` or `last`.

    `model` is what the stage `reward` of `mmrl train` makes with `head: {kind: process}` or `distilled`. The steps are
    the sentences of the completion, or with `after` end behind each such text, as those of `mmrl data steps --after`.
    The verdict's spans have the score of each, so that `advantages.tokens.spans` can move an advantage to the good
    ones. With `last` the completion may end in the midst of a step, as while it is decoded (PSRD, 2604.17982). It sees
    pictures as `reward_model` does.
    """
    from rewards.heads.process_model_torch import step_scores

    steps = [_steps(rollout.completion, after, whole=reduce == "last") for rollout in rollouts]
    rows = [i for i, found in enumerate(steps) if found]
    verdicts = [unparsed("empty completion")] * len(rollouts)
    scored = step_scores(
        [rollouts[i] for i in rows], [steps[i] for i in rows], model=model, device=device, dtype=dtype, batch=batch
    )
    for i, raw in zip(rows, scored, strict=True):
        if isinstance(raw, Verdict):
            verdicts[i] = raw
            continue
        values = [squashed(one, center, scale) for one in raw]
        total = {"mean": sum(values) / len(values), "min": min(values), "last": values[-1]}[reduce]
        spans = tuple(Span(start, stop, value) for (start, stop), value in zip(steps[i], values, strict=True))
        verdicts[i] = Verdict(total, f"{len(values)} steps", spans=spans)
    return verdicts


def _steps(text: str, after: str, *, whole: bool) -> list[tuple[int, int]]:
    if whole:
        return [(0, len(text))] if text.strip() else []
    return marked(text, after) if after else stretches(text)


def marked(text: str, after: str) -> list[tuple[int, int]]:
    """The bounds of the steps of a text that end behind each `after`, which is not empty; no step is blank.

    >>> marked("a. b", ". "), marked(" ", ". ")
    ([(0, 3), (3, 4)], [])
    """
    if not after:
        raise InputError("steps end behind a text, and after is empty; give one, such as '. '")
    stops: list[int] = []
    start = len(text) - len(text.lstrip())
    while start < len(text):
        mark = text.find(after, start)
        stop = len(text) if mark < 0 else mark + len(after)
        if stops and not text[start:stop].strip():
            stops[-1] = stop
        else:
            stops.append(stop)
        start = stop
    return list(pairwise([0, *stops]))
