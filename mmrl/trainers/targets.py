"""Gold answers as text in the model's own format, for SFT and for injected ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_engine.schema import Sample
from mmrl.core.boxes import rounded
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, from_pixels
from mmrl.model.chat import special_tokens, turn_end, without_opened
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import bare
from mmrl.model.sampling import stop_tokens
from rewards.tasks.table import OTHER, TASKS, task_type

ANSWER_FORMAT = "<think>{rationale}</think><answer>{answer}</answer>"


class Answers:
    """Answers as tokens behind a prompt: without what the prompt has written of them, ended as the template ends a
    turn. Special tokens in an answer are text."""

    def __init__(self, processor: Any, model: Any) -> None:
        self.tokenizer = processor.tokenizer
        self.special = special_tokens(self.tokenizer)
        self.ending = turn_end(processor, stop_tokens(bare(model), self.tokenizer))

    def tokens(self, answer: str, prompt: Encoded) -> list[int]:
        """The tokens of `answer` behind `prompt`."""
        text = without_opened(answer, prompt.opened)
        as_text = {"split_special_tokens": True} if any(token in text for token in self.special) else {}
        return [*self.tokenizer(text, add_special_tokens=False, **as_text)["input_ids"], *self.ending]


def rendered(
    row: Mapping[str, Any], space: CoordinateSpace, seen_size: Sequence[tuple[int, int]], *, form: str = ANSWER_FORMAT
) -> str:
    """The full completion that answers `row` correctly: its reasoning and its answer in `form`.

    The reasoning is `meta["rationale"]` of the sample or, for a choice, the text of the right option.

    >>> row = {"id": "a", "task": "yesno", "answer": {"yesno": True}, "media": (), "meta": {}}
    >>> rendered(row, CoordinateSpace.resized, [])
    '<think>I look</think><answer>yes</answer>'
    """
    kind = task_type(row["task"])
    if kind.completion:
        return kind.completion(row["answer"])
    thought = kind.thought(row["answer"]) if kind.thought else row["meta"].get("rationale", "I look")
    return (kind.form or form).format(rationale=thought, answer=answer_text(row, space, seen_size))


def check_answers(samples: Iterable[Sample]) -> None:
    """Refuse samples whose gold answer cannot be written as text."""
    for sample in samples:
        row = {name: getattr(sample, name) for name in ("id", "task", "answer", "media", "meta")}
        try:
            rendered(row, CoordinateSpace.unit, [(1, 1)] * len(sample.media))
        except InputError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"sample {sample.id}: its answer of task {sample.task!r} cannot be written ({error!r})"
            ) from None


def answer_text(row: Mapping[str, Any], space: CoordinateSpace, seen_size: Sequence[tuple[int, int]]) -> str:
    """The gold answer of `row` as text, with coordinates in `space`, for the picture as the model saw it."""
    golds = task_type(row["task"]).golds
    if golds is None:
        known = ", ".join(name for name, kind in TASKS.items() if kind.golds)
        raise InputError(f"sample {row['id']}: no answer of task {row['task']!r} can be written; known: {known}")

    def placed(pixels: Sequence[Sequence[float]]) -> list[list[float]]:
        if not len(pixels):
            return []
        size = (row["media"][0].width, row["media"][0].height)
        return rounded(from_pixels(np.asarray(pixels, dtype=float), space, size, seen_size[0]), space)

    return golds(row["answer"], placed)[0]


def can_be_written(task: str) -> bool:
    """Whether a gold answer of the task can be written as an answer to learn."""
    return TASKS.get(task, OTHER).golds is not None
