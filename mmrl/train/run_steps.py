"""Samples of the task `steps`: a run's own answers, with the scores that a reward gives the parts of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_engine.dataset.writer import DatasetWriter
from data_engine.schema import Sample, with_id
from mmrl.core.config import InputError
from mmrl.train.run_pairs import ANY, Group, groups_of, listed
from mmrl.trainers.preferences import STEPS
from rewards import Rollout, Suite, Verdict
from rewards.base import Span


def write_steps(run: Path, suite: Suite, out: Path, *, onsets: bool = False) -> Counter[str]:
    """Write the answers of `run`, the output of `mmrl train` or `mmrl eval run`, with scored steps as a dataset.

    `suite` has one reward, whose verdicts have spans; a step ends where a span does. With `onsets` only the first of
    spans that adjoin has a score: where a phase begins. Returns how many answers became a sample (`answers`), and how
    many did not, by the cause.
    """
    if len(suite.names) != 1:
        raise InputError(f"one reward scores the steps; the suite has {', '.join(suite.names)}")
    groups, prompt = groups_of(run, ANY)
    counts: Counter[str] = Counter()
    with DatasetWriter(out, name=out.name) as writer:
        writer.explain(origin={"sources": [], "operators": [], "prompt": prompt})
        for group in groups:
            for made in _of_group(group, suite, onsets):
                counts["answers" if isinstance(made, Sample) else made] += 1
                if isinstance(made, Sample):
                    writer.add(made)
        if not counts["answers"]:
            raise InputError(f"{run} gives no scored steps: {listed(counts, 'answers') or 'it has no answers'}")
    return counts


def _of_group(group: Group, suite: Suite, onsets: bool) -> list[Sample | str]:
    """A sample for each answer to a prompt, or why there is none."""
    if any(media.path is None for media in group.media):
        return ["media inside the shards of the data"] * len(group.answers)
    texts = [text for text, _ in group.answers]
    asked = {"task": group.task, "prompt": group.prompt, "media": group.media, "group": group.id}
    rollouts = [Rollout(text, **asked) for text in texts]
    vectors = suite.score(rollouts) if rollouts else []
    return [steps_of(group, text, vector[suite.names[0]], onsets) for text, vector in zip(texts, vectors, strict=True)]


def steps_of(group: Group, text: str, verdict: Verdict, onsets: bool = False) -> Sample | str:
    """An answer as a sample of the task `steps`, cut where the spans of its verdict end, or why there is none."""
    if not verdict.spans:
        return f"no scored parts ({verdict.kind})"
    cut = cut_by(text, verdict.spans, onsets)
    answer = {"steps": [part for part, _ in cut], "step_scores": [score for _, score in cut]}
    meta = {"task": group.task, "split": "train", "of": group.id}
    return with_id(Sample("", "answers", STEPS, group.prompt, answer, group.media, meta))


def cut_by(text: str, spans: Sequence[Span], onsets: bool = False) -> list[tuple[str, float | None]]:
    """The parts of a text, each up to the end of a span with the span's score; what follows the last has none.

    >>> cut_by("A dog runs. It barks", [Span(0, 5, 1.0), Span(5, 11, 0.5)])
    [('A dog', 1.0), (' runs.', 0.5), (' It barks', None)]
    """
    parts: list[tuple[str, float | None]] = []
    done = 0
    for span in sorted(spans, key=lambda each: each.start):
        adjoins = onsets and parts and done == span.start
        parts.append((text[done : span.stop], None if adjoins else span.score))
        done = span.stop
    return [*parts, (text[done:], None)] if text[done:].strip() else parts
