"""Pairs of answers of which one is preferred, from samples of the task `preference`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.text import shown

TASK = "preference"


def as_pairs(samples: Iterable[Sample]) -> list[Sample]:
    """The pairs of samples of the task `preference`: the preferred candidate with each of the others.

    A pair has two candidates, and the task of its question (`meta.task`), so that it is asked as the question is asked
    elsewhere. InputError, with the sample's id, for what is not two different texts.
    """
    return [pair for sample in samples for pair in _pairs(sample)]


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


def _checked(sample: Sample) -> list[str]:
    """The candidates of a sample; InputError if they are not different texts of which one is preferred."""
    where = f"sample {sample.id}"
    if sample.task != TASK:
        raise InputError(f"{where} is of the task {sample.task!r}; pairs are read from samples of the task {TASK!r}")
    if "pair" in sample.meta:
        raise InputError(
            f"{where} is one side of a pair of pictures (meta.pair); two answers to one prompt are wanted, in "
            "answer.candidates"
        )
    candidates, preferred = sample.answer.get("candidates"), sample.answer.get("preferred")
    if not isinstance(candidates, list) or len(candidates) < 2:
        raise InputError(f"{where}: candidates must be a list of at least two texts, got {shown(candidates)}")
    if type(preferred) is not int or not 0 <= preferred < len(candidates):
        raise InputError(
            f"{where}: preferred must be the number of one of {len(candidates)} candidates, from 0, got "
            f"{shown(preferred)}"
        )
    for number, text in enumerate(candidates):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: candidate {number} must be a text that is not blank, got {shown(text)}")
    texts = [text.strip() for text in candidates]
    for number, text in enumerate(texts):
        if number != preferred and text == texts[preferred]:
            raise InputError(f"{where}: candidates {preferred} and {number} are equal, so neither can be preferred")
    return candidates
