"""Preference pairs in GRPO's batches, for GCPO (Edit-R1, 2604.27505): a verifier's chains on both sides are compared.

A pair is two samples with the same `meta["pair"]`, one of which has `meta["preferred"]: true`. Advantages are computed
from the rewards of all processes: both sides must be in the same generation batch, on any processes.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import RepeatSampler

from mmrl.core.config import InputError
from rewards import Verdict


def check_pairs(args: GRPOConfig, refills: int) -> None:
    """Refuse batches that would separate the sides of a pair."""
    prompts = (args.generation_batch_size or 0) // (args.num_generations or 1)
    if prompts % 2:
        raise InputError(
            f"a generation has {prompts} prompts (generation_batch_size={args.generation_batch_size} / "
            f"num_generations={args.num_generations}); gcpo needs an even number, both sides of each pair"
        )
    if refills:
        raise InputError(
            f"rollout.refills={refills} cannot be combined with gcpo: it replaces single prompts whose own scores are "
            "constant, but a side learns from the scores of the other; set rollout.refills: 0"
        )


def compared_flags(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The estimator's options with `compared_K` as one flag per reward of `names`; a config lists the names compared.

    >>> compared_flags({"compared_K": ["score"]}, ["form", "score"])
    {'compared_K': [False, True]}
    """
    if "compared_K" not in options:
        return dict(options)
    compared = options["compared_K"]
    if not isinstance(compared, Sequence) or isinstance(compared, str) or not compared:
        raise InputError(f"compared_K={compared!r}; give a list of the rewards to compare: {', '.join(names)}")
    for name in compared:
        if name not in names:
            raise InputError(f"compared_K: no reward {name!r}; there are {', '.join(names)}")
    return {**options, "compared_K": [name in compared for name in names]}


class PairSampler(RepeatSampler):
    """Like `repeat`, but over pairs: a batch has the groups of both sides of each pair, one after the other."""

    def __init__(self, repeat: RepeatSampler, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__(
            pairs,
            mini_repeat_count=1,
            batch_size=repeat.batch_size // 2,
            repeat_count=repeat.repeat_count,
            shuffle=repeat.shuffle,
            seed=repeat.seed,
        )
        self.group = repeat.mini_repeat_count

    def __iter__(self) -> Generator[int, Any, None]:
        for pair in super().__iter__():
            for place in self.data_source[pair]:  # pyright: ignore[reportIndexIssue]
                yield from [place] * self.group

    def __len__(self) -> int:
        return super().__len__() * 2 * self.group


def pair_labels(metas_P: Sequence[Mapping[str, Any]], *, whole: bool = True) -> list[Hashable]:
    """The label of the pair of each prompt.

    An evaluation's batches need not be `whole`: there a side without the other is in no pair, and has the label None.
    """
    labels = [meta["pair"] for meta in metas_P]
    return [label if whole or labels.count(label) == 2 else None for label in labels]


def is_unparsed(verdicts: Mapping[str, Verdict], names: Sequence[str], compared_K: Sequence[bool] | None) -> bool:
    """Whether a compared reward could not read its score from the completion."""
    compared = compared_K or [True] * len(names)
    return any(verdicts[name].kind == "unparsed" for name, counts in zip(names, compared, strict=True) if counts)


def pair_metrics(
    rewards_PGK: Any, advantages_PG: Any, batch: Mapping[str, Any], compared_K: Sequence[bool] | None
) -> dict[str, float]:
    """Metrics of a batch's pairs.

    `pairs/right`: how often a chain of the preferred side scores above one of the other side (ties count half), by the
    first compared reward; `pairs/dead`: share of pairs without any advantage; `pairs/unread`: share of chains from
    which no score could be read.
    """
    first = list(compared_K).index(True) if compared_K else 0
    scores_PG = np.where(batch["failed_PG"], np.nan, np.asarray(rewards_PGK.cpu(), dtype=float)[:, :, first])
    silent_P = np.asarray((advantages_PG == 0).all(dim=1).cpu())
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(batch["pairs_P"]):
        if label is not None:
            rows.setdefault(label, []).append(row)
    pairs = [sorted(sides, key=lambda row: not batch["preferred_P"][row]) for sides in rows.values()]
    if not pairs:
        return {}
    margins = np.concatenate([(scores_PG[better][:, None] - scores_PG[other][None]).ravel() for better, other in pairs])
    margins = margins[~np.isnan(margins)]
    metrics = {
        "pairs/dead": np.mean([silent_P[sides].all() for sides in pairs]),
        "pairs/unread": batch["failed_PG"].mean(),
    }
    if len(margins):
        metrics["pairs/right"] = np.mean((margins > 0) + 0.5 * (margins == 0))
    return {name: float(value) for name, value in metrics.items()}
