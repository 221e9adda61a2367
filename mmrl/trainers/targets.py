"""Gold answers as text in the model's own format: what SFT teaches, and what injected ground truth says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, from_pixels

ANSWER_FORMAT = "<think>{rationale}</think><answer>{answer}</answer>"


def rendered(
    row: Mapping[str, Any], space: CoordinateSpace, seen_size: Sequence[tuple[int, int]], *, form: str = ANSWER_FORMAT
) -> str:
    """The full completion that answers `row` right; the thought is the sample's own (`meta["rationale"]`) or, for
    a choice, the text of the right option.

    >>> row = {"id": "a", "task": "yesno", "answer": {"yesno": True}, "media": (), "meta": {}}
    >>> rendered(row, CoordinateSpace.resized, [])
    '<think>I look</think><answer>yes</answer>'
    """
    if row["task"] == "edit":
        return chain(row["answer"])
    return form.format(rationale=_thought(row), answer=answer_text(row, space, seen_size))


def chain(answer: Mapping[str, Any]) -> str:
    """What a verifier says of an edit, by Edit-RRM's parse contract (2604.27505): its checklist, then its score.

    >>> chain({"instruction": "Red.", "principles": [{"question": "done", "score": 1}], "score": 8.0})
    '[{"question":"done","score":1}]<score>8</score>'
    """
    points = [{"question": one["question"], "score": one["score"]} for one in answer["principles"]]
    return f"{_json(points)}<score>{answer['score']:g}</score>"


def check_answers(samples: Iterable[Sample]) -> None:
    """Refuse samples whose gold answer cannot be written down."""
    for sample in samples:
        row = {name: getattr(sample, name) for name in ("id", "task", "answer", "media", "meta")}
        try:
            rendered(row, CoordinateSpace.unit, [(1, 1)] * len(sample.media))
        except InputError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"sample {sample.id}: its answer of task {sample.task!r} cannot be written down ({error!r})"
            ) from None


def answer_text(row: Mapping[str, Any], space: CoordinateSpace, seen_size: Sequence[tuple[int, int]]) -> str:
    """The gold answer of `row` as text; coordinates in `space`, for the picture as the model saw it."""
    task, answer = row["task"], row["answer"]
    if task not in _TEXTS:
        raise InputError(f"sample {row['id']}: no way to render an answer of task {task!r}; known: {sorted(_TEXTS)}")

    def points(pixels: Any) -> Any:
        media = row["media"][0]
        return _rounded(
            from_pixels(np.asarray(pixels, dtype=float), space, (media.width, media.height), seen_size[0]), space
        )

    return _TEXTS[task](answer, points)


def _thought(row: Mapping[str, Any]) -> str:
    if row["task"] == "choice":
        return row["answer"]["options"]["ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(row["answer"]["choice"])]
    return row["meta"].get("rationale", "I look")


def _rounded(coordinates: np.ndarray, space: CoordinateSpace) -> Any:
    return (
        np.round(coordinates, 3).tolist()
        if space is CoordinateSpace.unit
        else np.rint(coordinates).astype(int).tolist()
    )


def _digits(number: float) -> str:
    """A number with all of its digits and no exponent.

    >>> _digits(1234567.0), _digits(0.25)
    ('1234567', '0.25')
    """
    return np.format_float_positional(number, trim="-")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _detected(answer: Mapping[str, Any], points: Callable[[Any], Any]) -> str:
    boxes = points(answer["boxes"]) if answer["boxes"] else []
    return _json([{"bbox_2d": box, "label": label} for box, label in zip(boxes, answer["labels"], strict=True)])


_TEXTS: dict[str, Callable[[Mapping[str, Any], Callable[[Any], Any]], str]] = {
    "choice": lambda answer, _: answer["choice"],
    "yesno": lambda answer, _: "yes" if answer["yesno"] else "no",
    "number": lambda answer, _: _digits(answer["number"]),
    "count": lambda answer, _: _digits(answer["number"]),
    "math": lambda answer, _: answer["math"],
    "text": lambda answer, _: answer["text"][0],
    "ocr": lambda answer, _: answer["text"][0],
    "chart": lambda answer, _: answer["text"][0],
    "grounding": lambda answer, points: _json(points(answer["boxes"][0])),
    "detection": _detected,
    "point": lambda answer, points: _json(points(answer["points"][0])),
    "temporal": lambda answer, _: _json(answer["spans"][0]),
    "caption": lambda answer, _: answer["references"][0],
    "open": lambda answer, _: answer["references"][0],
}

RENDERED = frozenset(_TEXTS)  # the tasks whose gold answers can be written down
