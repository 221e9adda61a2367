"""Pairs of answers of which one is preferred, from samples of the task `preference`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from data_engine.dataset.pairs import candidates_of, check_apart, picture_pairs
from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.messages import parts_of
from mmrl.core.text import shown
from rewards.tasks import keys

TASK = "preference"
STEPS = "steps"  # the task of answers whose steps are scored
OF_TURNS = "of_turns"  # of the meta of a sample: an answer had several turns, and lacks what tools returned


def as_pairs(samples: Iterable[Sample]) -> list[Sample]:
    """The pairs of samples of the task `preference`: the preferred candidate with each of the others.

    A pair has two candidates, and the task of its question (`meta.task`), so that it is asked as the question is asked
    elsewhere. InputError, with the sample's id, for what is not two different texts.
    """
    return [pair for sample in samples for pair in _pairs(sample)]


def of_one_turn(samples: Iterable[Sample]) -> list[Sample]:
    """The samples; InputError, with the sample's id, where an answer of several turns would be learned as one turn."""
    given = list(samples)
    for sample in given:
        if sample.meta.get(OF_TURNS):
            raise InputError(
                f"sample {sample.id} has an answer of several turns without what tools returned (meta.{OF_TURNS}); dpo "
                "learns answers of one turn, and the stage reward reads such answers as its reward will"
            )
    return given


def ranked_pairs(samples: Iterable[Sample], margin: float = 0.0) -> list[Sample]:
    """The pairs of samples of the task `preference`, ranked by `meta.scores`, a number for each candidate.

    Every two candidates are a pair, whose `answer.margin` is `margin` times the difference of their scores. Two with
    equal scores are a tie: a pair in each order. Without scores the pairs are those of `as_pairs`.

    Two samples with a `meta.pair` are a pair of pictures: its candidates are blank, and its media those of the
    preferred side, then those of the other.
    """
    given = list(samples)
    shown = picture_pairs([sample for sample in given if sample.task == TASK and "pair" in sample.meta])
    told = (sample for sample in given if sample.task != TASK or "pair" not in sample.meta)
    return [*(_of_pictures(*pair) for pair in shown), *(pair for sample in told for pair in _ranked(sample, margin))]


def rankings(samples: Iterable[Sample]) -> list[Sample]:
    """Samples of the task `preference` with all their candidates, as they are scored in one pass.

    The preferred one is the best; `meta.scores`, where they are given, must agree.
    """
    ranked = []
    for sample in samples:
        _checked(sample)
        if sample.meta.get("scores") is not None:
            _check_scores(sample, sample.meta["scores"])
        ranked.append(replace(sample, task=str(sample.meta.get("task", TASK))))
    return ranked


def with_step_scores(samples: Iterable[Sample]) -> list[Sample]:
    """Samples of the task `steps` that have a score at the end of a step.

    Each is asked as its question is (`meta.task`). InputError, with the sample's id, for what is no such answer.
    """
    found = []
    for sample in samples:
        if sample.task != STEPS:
            raise InputError(
                f"sample {sample.id} is of the task {sample.task!r}; scored steps are of the task {STEPS!r}"
            )
        for key in (keys.STEPS, keys.STEP_SCORES):
            if not key.is_right(value := sample.answer.get(key.name), sample.answer):
                raise InputError(f"sample {sample.id}: {key.name} must be {key.right}, got {shown(value)}")
        if any(score is not None for score in sample.answer["step_scores"]):
            found.append(replace(sample, task=str(sample.meta.get("task", STEPS))))
    if not found:
        raise InputError("no sample has a score at the end of a step")
    return found


GOAL = "Overall score: {score:g}"  # the system message of a relabelled pair
LARGEST = sys.float_info.max  # a score


def relabelled(samples: Iterable[Sample]) -> list[Sample]:
    """The pairs of samples with `meta.scores`, each asked twice for a score (reward-augmented data, 2410.08067).

    Asked for the score of the better answer, that one is preferred; asked for the score of the other, the other is. A
    system message names the score; at inference one asks for the highest. Ties would contradict themselves and are left
    out, and so are scores that the message writes alike.
    """
    made = []
    for sample in samples:
        if sample.meta.get("scores") is None:
            raise InputError(f"sample {sample.id} has no meta.scores, which relabelling asks for")
        for pair in _ranked(sample, 1.0):
            best, worst = pair.meta["scores"]
            if GOAL.format(score=best) != GOAL.format(score=worst):
                better, other = sides(pair.answer)
                made += [_asked_for(best, better, other, pair), _asked_for(worst, other, better, pair)]
    if not made:
        raise InputError("no sample has two candidates with different meta.scores, so there is nothing to relabel")
    return made


def sides(answer: Mapping[str, Any]) -> tuple[str, str]:
    """(the preferred text, the other) of the answer of a pair.

    >>> sides({"candidates": ["3", "2"], "preferred": 1})
    ('2', '3')
    """
    return answer["candidates"][answer["preferred"]], answer["candidates"][1 - answer["preferred"]]


def _pairs(sample: Sample) -> Iterator[Sample]:
    candidates, preferred = _checked(sample), sample.answer["preferred"]
    task = str(sample.meta.get("task", TASK))
    for number, other in enumerate(candidates):
        if number != preferred:
            name = sample.id if len(candidates) == 2 else f"{sample.id}#{number}"
            answer = {"candidates": [candidates[preferred], other], "preferred": 0}
            yield replace(sample, id=name, task=task, answer=answer)


def _ranked(sample: Sample, margin: float) -> Iterator[Sample]:
    candidates, scores = _checked(sample), sample.meta.get("scores")
    if scores is None:
        yield from _pairs(sample)
        return
    _check_scores(sample, scores)
    for first, second in combinations(range(len(candidates)), 2):
        better, worse = (first, second) if scores[first] >= scores[second] else (second, first)
        orders = [(better, worse), (worse, better)] if scores[better] == scores[worse] else [(better, worse)]
        for one, other in orders:
            answer = {"candidates": [candidates[one], candidates[other]], "preferred": 0}
            answer["margin"] = margin * (scores[better] - scores[worse])
            meta = {**sample.meta, "scores": [scores[one], scores[other]]}
            task = str(sample.meta.get("task", TASK))
            yield replace(sample, id=f"{sample.id}#{one}-{other}", task=task, answer=answer, meta=meta)


def _of_pictures(better: Sample, other: Sample) -> Sample:
    answer = {"candidates": ["", ""], "preferred": 0}
    return replace(better, task=str(better.meta.get("task", TASK)), answer=answer, media=(*better.media, *other.media))


def _asked_for(score: float, better: str, other: str, pair: Sample) -> Sample:
    """The pair asked for `score`, which `better` has."""
    prompt = with_system(pair.prompt, GOAL.format(score=score))
    answer = {"candidates": [better, other], "preferred": 0}
    return replace(pair, id=f"{pair.id}@{score:g}", prompt=prompt, answer=answer)


def with_system(prompt: Sequence[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """`prompt` with a text in its system message, below what is there.

    >>> with_system([{"role": "user", "content": "Why?"}], "Be brief.")[0]
    {'role': 'system', 'content': [{'type': 'text', 'text': 'Be brief.'}]}
    """
    added, first = {"type": "text", "text": text}, prompt[0]
    if first["role"] != "system":
        return [{"role": "system", "content": [added]}, *prompt]
    return [{**first, "content": [*parts_of(first["content"]), {"type": "text", "text": "\n"}, added]}, *prompt[1:]]


def _check_scores(sample: Sample, scores: Any) -> None:
    count, best = len(sample.answer["candidates"]), sample.answer["preferred"]
    numbers = isinstance(scores, list) and all(type(score) in (int, float) for score in scores)
    if not numbers or len(scores) != count or not all(abs(score) <= LARGEST for score in scores):
        raise InputError(f"sample {sample.id}: meta.scores must be {count} finite numbers, got {shown(scores)}")
    if scores[best] < max(scores):
        raise InputError(
            f"sample {sample.id}: candidate {best} is preferred, and meta.scores has a higher score for another: "
            f"{shown(scores)}"
        )
    check_apart(sample.answer["candidates"], combinations(range(count), 2), f"sample {sample.id}")


def _checked(sample: Sample) -> list[str]:
    """The candidates of a sample, as `candidates_of`."""
    where = f"sample {sample.id}"
    if sample.task != TASK:
        raise InputError(f"{where} is of the task {sample.task!r}; pairs are read from samples of the task {TASK!r}")
    if "pair" in sample.meta:
        raise InputError(
            f"{where} is one side of a pair of pictures (meta.pair); two answers to one prompt are wanted, in "
            "answer.candidates"
        )
    return candidates_of(sample.answer, where)
