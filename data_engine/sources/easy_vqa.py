"""The easy-VQA package: real third-party pictures of coloured shapes, and questions about them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter, defaultdict
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
    balanced: bool = False,
) -> Iterator[Sample]:
    """Yes/no questions, and questions about shape and colour.

    `open_questions` says what the latter become: a choice of up to `options` answers, or a free text. `per_kind` draws
    that many questions of each of the two kinds from every split. `balanced` keeps, of the pictures of which the same
    yes/no question is asked, as many with one answer as with the other: most things asked for are not there, and
    without a picture 82 % of the answers can be guessed.
    """
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise InputError("source easy_vqa reads the package easy-vqa: pip install easy-vqa==1.0")
    data = Path(spec.origin).parent / "data"
    splits = ("train", "test") if split == "all" else (split,)

    def samples() -> Iterator[Sample]:
        for name in splits:
            rows = json.loads((data / name / "questions.json").read_text(encoding="utf-8"))
            shown = things_shown(rows)
            for number, (question, answer, image_id) in _drawn(rows, per_kind, seed, balanced):
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
                meta["rationale"] = " ".join(word for word in (*COLOURS, *SHAPES) if word in shown[image_id])
                yield Sample("", "easy_vqa", task, user_prompt(text, ["image"]), gold, (media,), meta)

    return samples()


def things_shown(rows: list[Any]) -> dict[int, set[str]]:
    """The shape and the colour in each picture, by its number, as far as the questions and answers `rows` tell."""
    shown: dict[int, set[str]] = defaultdict(set)
    for question, answer, image_id in rows:
        if answer in ("yes", "no"):
            asked = set(re.findall(r"\w+", question))
            there = (answer == "yes") != bool(asked & {"not", "no"})
            shown[image_id] |= asked & {*SHAPES, *COLOURS} if there else set()
        else:
            shown[image_id].add(answer)
    return shown


def _drawn(rows: list[Any], per_kind: int | None, seed: int, balanced: bool) -> list[tuple[int, Any]]:
    """The (number, row) pairs of all rows, or of `per_kind` rows of each kind of question, in their order."""
    hashed = sorted(enumerate(rows), key=lambda pair: seeding.digest("easy_vqa", seed, *pair[1]))
    closed = [pair for pair in hashed if pair[1][1] in ("yes", "no")]
    opened = [pair for pair in hashed if pair[1][1] not in ("yes", "no")]
    return sorted((_evened(closed) if balanced else closed)[:per_kind] + opened[:per_kind])


def _evened(pairs: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """The first pairs with each answer to each question, as many as there are with its rarer answer."""
    counts, kept = Counter((row[0], row[1]) for _, row in pairs), Counter[tuple[str, str]]()
    some = []
    for number, row in pairs:
        question, answer = row[0], row[1]
        kept[question, answer] += 1
        if kept[question, answer] <= min(counts[question, "yes"], counts[question, "no"]):
            some.append((number, row))
    return some
