"""Samples of the task `steps`: a run's own answers with a score for each part, by a reward of parts, or by what the
answers with the same beginning have earned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from data_engine.dataset.writer import DatasetWriter
from data_engine.schema import Sample, with_id
from mmrl.core.config import InputError
from mmrl.train.run_pairs import ANY, Group, groups_of, listed
from mmrl.trainers.preferences import STEPS
from rewards import Rollout, Suite, Verdict
from rewards.base import Span
from rewards.heads.process_model import marked


def write_steps(run: Path, suite: Suite, out: Path, *, onsets: bool = False) -> Counter[str]:
    """Write the answers of `run`, the output of `mmrl train` or `mmrl eval run`, with scored steps as a dataset.

    `suite` has one reward, whose verdicts have spans; a step ends where a span does. With `onsets` only the first of
    spans that adjoin has a score: where a phase begins. Returns how many answers became a sample (`answers`), and how
    many did not, by the cause.
    """
    if len(suite.names) != 1:
        raise InputError(f"one reward scores the steps; the suite has {', '.join(suite.names)}")
    return _written(run, ANY, out, lambda group: _of_group(group, suite, onsets))


def write_tree_steps(run: Path, reward: str | None, out: Path, *, after: str) -> Counter[str]:
    """The same with steps that end behind each `after` and are scored by what came of them (`tree_steps`). `reward` is
    one of the run. Groups that are trees (`rollout.tree`) have answers with the same beginning."""
    return _written(run, reward, out, lambda group: _of_tree(group, after))


def _written(run: Path, reward: str | None, out: Path, made_of: Callable[[Group], list[Sample | str]]) -> Counter[str]:
    groups, prompt = groups_of(run, reward)
    counts: Counter[str] = Counter()
    with DatasetWriter(out, name=out.name) as writer:
        writer.explain(origin={"sources": [], "operators": [], "prompt": prompt})
        for group in groups:
            counts.update({"cut by the token limit, or injected": group.cut} if group.cut else {})
            for made in made_of(group):
                counts["answers" if isinstance(made, Sample) else made] += 1
                if isinstance(made, Sample):
                    writer.add(made)
        if not counts["answers"]:
            raise InputError(f"{run} gives no scored steps: {listed(counts, 'answers') or 'it has no answers'}")
    return counts


def _of_group(group: Group, suite: Suite, onsets: bool) -> list[Sample | str]:
    """A sample for each answer to a prompt, or why there is none."""
    texts = [text for text, _ in group.answers]
    asked = {"task": group.task, "prompt": group.prompt, "media": group.media, "group": group.id}
    rollouts = [Rollout(text, **asked) for text in texts]
    vectors = suite.score(rollouts) if rollouts else []
    return [steps_of(group, text, vector[suite.names[0]], onsets) for text, vector in zip(texts, vectors, strict=True)]


def steps_of(group: Group, text: str, verdict: Verdict, onsets: bool = False) -> Sample | str:
    """An answer as a sample of the task `steps`, cut where the spans of its verdict end, or why there is none."""
    if not verdict.spans:
        return f"no scored parts ({verdict.kind})"
    if low := [span.score for span in verdict.spans if span.score < 0]:
        raise InputError(f"a part of an answer has {low[0]:g}; as a score of a step it must be in [0, 1]")
    return _sample(group, cut_by(text, verdict.spans, onsets), {"of": group.id})


def _sample(group: Group, parts: Sequence[tuple[str, float | None]], where: dict[str, Any]) -> Sample:
    answer = {"steps": [part for part, _ in parts], "step_scores": [score for _, score in parts]}
    meta = {"task": group.task, "split": "train", **where}
    return with_id(Sample("", "answers", STEPS, group.prompt, answer, group.media, meta))


def _of_tree(group: Group, after: str) -> list[Sample | str]:
    """A sample for each different answer that has a beginning in common with another, or why there is none."""
    for _, score in group.answers:
        if score is not None and not 0 <= score <= 1:
            raise InputError(f"{group.where['reward']} gave {score:g}; as a score of a step it must be in [0, 1]")
    made: dict[str, Sample | str] = {}
    for text, parts in zip((text for text, _ in group.answers), tree_steps(group.answers, after), strict=True):
        alone = all(score is None for _, score in parts[:-1])
        made[text] = "no beginning in common with another" if alone else _sample(group, parts, group.where)
    return list(made.values())


def tree_steps(answers: Sequence[tuple[str, float | None]], after: str) -> list[list[tuple[str, float | None]]]:
    """The parts of each answer, up to each `after`, and their scores.

    The score of a beginning is the mean of the answers that go on from it (R(h, v) of V-STAR, 2602.10699, equation 15),
    None if only one does; the last part has the score of the answer. Answers without a score are left out of means.

    >>> tree_steps([("a. b", 1.0), ("a. c", 0.0), ("d. b", 1.0)], ". ")
    [[('a. ', 0.5), ('b', 1.0)], [('a. ', 0.5), ('c', 0.0)], [('d. ', None), ('b', 1.0)]]
    """
    texts = [text.strip() for text, _ in answers]
    parts = [[text[start:stop] for start, stop in marked(text, after)] for text in texts]
    below: dict[str, list[float | None]] = defaultdict(list)
    for of_one, (_, score) in zip(parts, answers, strict=True):
        for stop in range(1, len(of_one)):
            below["".join(of_one[:stop])].append(score)
    return [
        [
            (part, score if stop == len(of_one) else _mean(below["".join(of_one[:stop])]))
            for stop, part in enumerate(of_one, 1)
        ]
        for of_one, (_, score) in zip(parts, answers, strict=True)
    ]


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return fmean(known) if len(scores) > 1 and known else None


def cut_by(text: str, spans: Sequence[Span], onsets: bool = False) -> list[tuple[str, float | None]]:
    """The parts of a text, each up to the end of a span with the span's score; what follows the last has none.

    A span that ends within the one before, or adds blanks alone, makes no part.

    >>> cut_by("A dog runs. It barks", [Span(0, 5, 1.0), Span(5, 11, 0.5)])
    [('A dog', 1.0), (' runs.', 0.5), (' It barks', None)]
    """
    parts: list[tuple[str, float | None]] = []
    done = 0
    for span in sorted(spans, key=lambda each: each.start):
        if not text[done : span.stop].strip():
            continue
        adjoins = onsets and parts and done == span.start
        parts.append((text[done : span.stop], None if adjoins else span.score))
        done = span.stop
    return [*parts, (text[done:], None)] if text[done:].strip() else parts
