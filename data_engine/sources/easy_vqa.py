"""The easy-VQA package: real third-party pictures of coloured shapes, and questions about them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from data_engine import seeding
from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.media.item import Media

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")


def easy_vqa(
    *,
    split: Literal["train", "test", "all"] = "all",
    seed: int = 0,
    open_questions: Literal["choice", "text"] = "choice",
    options: Annotated[int, Field(ge=2, le=len(COLOURS))] = 4,
    per_kind: PositiveInt | None = None,
) -> Iterator[Sample]:
    """Yes/no questions, and questions about shape and colour.

    `open_questions` says what the latter become: a choice of up to `options` answers, or a free text. `per_kind` draws
    that many questions of each of the two kinds from every split.
    """
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise InputError("source easy_vqa reads the package easy-vqa: pip install easy-vqa==1.0")
    data = Path(spec.origin).parent / "data"
    splits = ("train", "test") if split == "all" else (split,)

    def samples() -> Iterator[Sample]:
        for name in splits:
            rows = json.loads((data / name / "questions.json").read_text(encoding="utf-8"))
            for number, (question, answer, image_id) in _drawn(rows, per_kind, seed):
                key = (seed, name, image_id, question)
                if answer in ("yes", "no"):
                    task, text, gold = "yesno", question, {"yesno": answer == "yes"}
                elif open_questions == "text":
                    task, text, gold = "text", question, {"text": [answer]}
                else:
                    kind = SHAPES if answer in SHAPES else COLOURS
                    task, (text, gold) = "choice", seeding.choice(question, answer, kind, options, *key)
                media = Media("image", path=str(data / name / "images" / f"{image_id}.png"))
                meta = {"split": name, "licence": "MIT", "where": f"easy_vqa/{name}/questions.json:{number}"}
                yield Sample("", "easy_vqa", task, user_prompt(text, ["image"]), gold, (media,), meta)

    return samples()


def _drawn(rows: list[Any], per_kind: int | None, seed: int) -> list[tuple[int, Any]]:
    """The (number, row) pairs of all rows, or of `per_kind` rows of each kind of question, in their order."""
    numbered = list(enumerate(rows))
    if per_kind is None:
        return numbered
    kinds: dict[bool, list[tuple[int, Any]]] = {True: [], False: []}
    for number, row in sorted(numbered, key=lambda pair: seeding.digest("easy_vqa", seed, *pair[1])):
        kinds[row[1] in ("yes", "no")].append((number, row))
    return sorted(kinds[True][:per_kind] + kinds[False][:per_kind])
