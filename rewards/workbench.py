"""What a reward gives for the gold answer and for perturbed forms of it, so that a lax reward shows at once.

Each sample of a dataset is answered in the ways of PERTURBATIONS, in the form of a model that always keeps the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rewards.base import Rollout, Verdict
from rewards.parse.objects import points
from rewards.parse.regions import boxes
from rewards.parse.spans import spans
from rewards.suite import Suite
from rewards.tasks.table import OTHER, TASKS, TaskType
from rewards.tricks import GAIN, TRICKS

PERTURBATIONS = ("exact", "empty", "other", "junk_after", "junk_before", "twice")
JUNK = 4  # wrong parts that are added to the gold

Parts = list[Any]  # an answer in parts that can be repeated and joined: boxes, points, spans, or one text
FULL = 0.99  # from here on a score is as good as full
CLOSE = 0.01  # scores nearer than this are equal


@dataclass(frozen=True, slots=True)
class Finding:
    """The mean score of one reward for one task under each perturbation, over n samples, and its flags.

    `failed` counts the samples on which it failed with the gold answer itself. `tricks` are the mean scores of answers
    that need no look at the picture.
    """

    reward: str
    task: str
    n: int
    means: Mapping[str, float | None]
    flags: tuple[str, ...]
    failed: int = 0
    tricks: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def lax(self) -> bool:
        """Whether a wrong answer earns as much as a right one."""
        return any(flag.startswith("lax") for flag in self.flags)


def try_suite(suite: Suite, rollouts: Iterable[Rollout]) -> list[Finding]:
    """The scores of each reward of the suite for perturbed gold answers of the rollouts, task by task.

    The completions of the rollouts are ignored. Tasks whose gold has no written form (preference, edit) are left out,
    and so are verdicts of None.
    """
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if gold_parts(rollout):
            by_task.setdefault(rollout.task, []).append(_in_pixels(rollout))
    findings = []
    for task, samples in sorted(by_task.items()):
        scores = {
            kind: suite.score([_answered(samples, i, kind) for i in range(len(samples))]) for kind in PERTURBATIONS
        }
        tricks = {trick: suite.score(answered) for trick in TRICKS if (answered := _tricked(samples, trick))}
        for name in suite.names:
            means = {kind: _mean([row[name] for row in rows]) for kind, rows in scores.items()}
            exact = [row[name] for row in scores["exact"]]
            causes = [verdict.why for verdict in exact if verdict.kind == "failed"]
            if means["exact"] is not None or causes:
                n = sum(verdict.score is not None for verdict in exact)
                earned = {trick: _mean([row[name] for row in rows]) for trick, rows in tricks.items()}
                flags = [
                    *flags_of(means),
                    *tricks_that_pay(means, earned),
                    *(f"fails: {cause}" for cause in causes[:1]),
                ]
                findings.append(Finding(name, task, n, means, tuple(flags), len(causes), earned))
    return findings


def flags_of(means: Mapping[str, float | None]) -> list[str]:
    """What is wrong with a reward that has these mean scores; a flag that begins with "lax" means that wrong answers
    earn.

    >>> flags_of({"exact": 1.0, "empty": 0.0, "other": 0.1, "junk_after": 1.0, "junk_before": 1.0, "twice": 1.0})
    ['lax: junk next to the gold is free']
    """
    exact, empty, other, after, before, twice = (means.get(kind) for kind in PERTURBATIONS)
    if exact is None:
        return []
    flags = []
    if exact < FULL:
        flags.append("the gold does not score 1")
    if (empty or 0) > CLOSE:
        flags.append("lax: an empty completion earns")
    if other is not None and other >= exact - CLOSE:
        flags.append("lax: blind to the gold")
    elif after is not None and before is not None and min(after, before) >= exact - CLOSE:
        flags.append("lax: junk next to the gold is free")
    elif (after or 0) >= exact - CLOSE or (before or 0) >= exact - CLOSE:
        flags.append(f"junk {'after' if (after or 0) >= exact - CLOSE else 'before'} the gold is free")
    if (twice or 0) > exact + CLOSE:
        flags.append("lax: saying it twice earns more")
    return flags


def tricks_that_pay(means: Mapping[str, float | None], tricks: Mapping[str, float | None]) -> list[str]:
    """A flag for each trick that earns more than another sample's gold does.

    >>> tricks_that_pay({"exact": 1.0, "other": 0.1}, {"the middle": 0.3, "a wrong word": 0.1})
    ['lax: the middle earns 0.30, a guess 0.10']
    """
    guess, exact = means.get("other"), means.get("exact")
    if guess is None or exact is None or guess >= exact - CLOSE:  # blind to the gold: a flag of its own
        return []
    return [
        f"lax: {trick} earns {mean:.2f}, a guess {guess:.2f}"
        for trick, mean in tricks.items()
        if mean is not None and mean > guess + GAIN
    ]


def _tricked(samples: Sequence[Rollout], trick: str) -> list[Rollout]:
    """The samples answered by a trick; none if it is not for their task, or if all golds are the same."""
    golds = [gold_parts(sample) for sample in samples]
    if all(parts == golds[0] for parts in golds):
        return []
    answers = [TRICKS[trick](sample, parts, golds) for sample, parts in zip(samples, golds, strict=True)]
    return [
        replace(sample, completion=f"<think>I look.</think><answer>{_written(answer)}</answer>")
        for sample, answer in zip(samples, answers, strict=True)
        if answer
    ]


def gold_parts(rollout: Rollout) -> Parts:
    """The gold answer of a rollout in parts, as a completion would write them; empty if it has no written form.

    >>> gold_parts(Rollout("", {"boxes": [[1, 2, 3, 4]], "labels": ["cat"]}))
    [{'bbox_2d': [1, 2, 3, 4], 'label': 'cat'}]
    """
    answer = rollout.answer
    if not isinstance(answer, Mapping):
        return [] if answer is None else [str(answer)]
    kind = _kind(rollout)
    if kind is OTHER:
        return [written(answer[key]) for key, written in _NAMED.items() if answer.get(key)][:1]
    if kind.regions:
        return _REGIONS[kind.regions](answer)
    return [kind.inline.format(gold) for gold in kind.golds(answer, lambda rows: rows)[:1]] if kind.golds else []


def _kind(rollout: Rollout) -> TaskType:
    """The entry of the rollout's task, or else the first task whose first key the answer has."""
    kinds = (TASKS.get(rollout.task, OTHER), *TASKS.values())
    given = rollout.answer if isinstance(rollout.answer, Mapping) else {}
    return next((kind for kind in kinds if kind.keys and given.get(kind.keys[0].name) not in (None, [], "")), OTHER)


def _answered(samples: Sequence[Rollout], i: int, kind: str) -> Rollout:
    """The i-th sample with a perturbed gold as completion; the golds of other samples serve as junk."""
    mine = gold_parts(samples[i])
    others = [
        parts for step in range(1, len(samples)) if (parts := gold_parts(samples[(i + step) % len(samples)])) != mine
    ]
    junk = [part for parts in others[:JUNK] for part in parts][:JUNK] or _made_up(samples[i])
    if kind == "empty":
        return replace(samples[i], completion="")
    parts = {
        "exact": mine,
        "other": others[0] if others else junk,
        "junk_after": [*mine, *junk],
        "junk_before": [*junk, *mine],
        "twice": [*mine, *mine],
    }[kind]
    return replace(samples[i], completion=f"<think>I look.</think><answer>{_written(parts)}</answer>")


def _written(parts: Parts) -> str:
    return " or ".join(parts) if all(isinstance(part, str) for part in parts) else json.dumps(parts)


def _made_up(sample: Rollout) -> Parts:
    """Wrong answers for a sample that is the only one of its task, or whose task has only one answer."""
    parts, kind = gold_parts(sample), _kind(sample)
    if kind.choices:
        return [choice for choice in kind.choices(sample.answer) if choice != parts[0]][:JUNK]
    if isinstance(parts[0], str):
        return ["17.25", "zebra crossing"]
    far = [1e6 + i for i in range(JUNK)]
    if isinstance(parts[0], dict) and "point_2d" in parts[0]:
        return [{"point_2d": [x, 1e6]} for x in far]
    if isinstance(parts[0], dict):
        return [{**parts[0], "bbox_2d": [x, 1e6, x + 1, 1e6 + 1]} for x in far]
    return [[x, x + 1] for x in far]


def _boxes(answer: Mapping[str, Any]) -> Parts:
    rows = _rows(answer["boxes"], boxes)
    labels = answer.get("labels") or [None] * len(rows)
    return [{"bbox_2d": row} | ({"label": label} if label else {}) for row, label in zip(rows, labels, strict=False)]


def _rows(value: Any, parse: Callable[[str], Sequence[Sequence[float]]]) -> Parts:
    """Gold rows as rewards read them: a text, one row, or several."""
    if isinstance(value, str):
        return [list(row) for row in parse(value)]
    if not isinstance(value, Sequence):
        return []
    listed = value if all(isinstance(row, Sequence) for row in value) else [value]
    return [list(row) for row in listed]


def _keywords(value: Any) -> str:
    """The keywords of the first chain, in its order."""
    chain = value if isinstance(value, Mapping) else value[0]
    return " ".join(word for words in chain.values() for word in ([words] if isinstance(words, str) else words))


_NAMED: dict[str, Callable[[Any], str]] = {  # golds of rewards that belong to no task
    "objects": lambda names: ", ".join(map(str, names)),
    "chain": _keywords,
}
_REGIONS: dict[str, Callable[[Mapping[str, Any]], Parts]] = {
    "boxes": _boxes,
    "points": lambda answer: [{"point_2d": point} for point in _rows(answer["points"], points)],
    "spans": lambda answer: _rows(answer["spans"], spans),
}


def _in_pixels(rollout: Rollout) -> Rollout:
    """The rollout of a model that writes pixels, as the gold does."""
    return replace(rollout, meta={key: value for key, value in rollout.meta.items() if key != "space"})


def _mean(verdicts: Sequence[Verdict]) -> float | None:
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    return sum(scores) / len(scores) if scores else None
