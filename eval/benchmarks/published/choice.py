"""Multiple choice: MMBench with rotated options, SEED-Bench, AI2D, ScienceQA, BLINK, RealWorldQA, MMStar.

The circular score counts a question only if all rotations of its options are answered right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import (
    LETTER_ONLY,
    choice_answer,
    choice_text,
    letter_index,
    listed,
    listed_texts,
    picture,
    picture_name,
)
from eval.benchmarks.metrics import all_right, groups, mean, micro, prefixed, scored_by, together, unparsed_share
from eval.benchmarks.scoring import by_task
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout, Verdict, get

LETTER = {"accuracy": default("choice_match")}
TURN = 1_000_000  # rows of one question of a circular file share their index modulo this


def rotations(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """The question of a row, once for each rotation of its options (the non-empty columns A to E)."""
    options, right = _filled(row)
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn]
        yield _rotation(row, f"{row['index']}/{turn}", turn, turned, (right - turn) % len(options))


def circular_rows(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of a file that holds the rotations; rows of one question share their index modulo TURN."""
    index = int(row["index"])
    yield _rotation(row, str(index), index // TURN, *_filled(row))


def circular_metrics(records: Sequence[Record]) -> Metrics:
    """Circular accuracy, also by category of the base row; the first rotation alone; the mean over all rotations."""
    questions = [sorted(group, key=lambda record: record.meta["turn"]) for group in together(records, ["question"])]
    base = [group[0] for group in questions]
    right = {id(group[0]): all_right(group) for group in questions}
    numbers: Metrics = {
        "circular": mean(right.values()),
        "vanilla": micro(base),
        "mean_of_rotations": micro(records),
        "unparsed": unparsed_share(records),
    }
    for key in ("category", "ability"):
        scores = {name: mean(right[id(record)] for record in group) for name, group in groups(base, key).items()}
        numbers |= prefixed(key, scores)
    return numbers


def seed_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A SEED-Bench row: choice_a to choice_d."""
    options = [str(row[f"choice_{letter}"]) for letter in "abcd"]
    images = listed(row["image"]) if isinstance(row["image"], list | tuple) else [row["image"]]
    yield _asked(
        row["question_id"], row["question"], options, letter_index(row["answer"]), images, kind=row["data_type"]
    )


def ai2d_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An AI2D row; the answer is an index. Question, options and image serve as its id.

    Images with and without masks over their labels are two benchmarks.
    """
    options = listed_texts(row["options"])
    yield _asked(row.get("question_id") or None, row["question"], options, int(row["answer"]), [row["image"]])


def scienceqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A ScienceQA row; rows without an image are skipped."""
    if picture(row["image"]):
        options = listed_texts(row["choices"])
        name, hint = row.get("id") or None, str(row.get("hint") or "")
        yield _asked(name, row["question"], options, int(row["answer"]), [row["image"]], hint=hint)


def blink_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A BLINK row: up to four images; the prompt contains the options."""
    options = listed_texts(row["choices"])
    yield Item(
        id=str(row["idx"]),
        task="choice",
        text=f"{row['prompt']}\n{LETTER_ONLY}",
        answer=choice_answer(options, letter_index(row["answer"])),
        media=tuple(medium for number in range(1, 5) for medium in picture(row.get(f"image_{number}"))),
        meta={"subtask": row.get("sub_task") or str(row["idx"]).rsplit("_", 1)[0]},
    )


def realworldqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A RealWorldQA row: a choice if the gold is one of A to D, else a text."""
    right, question = str(row["answer"]).strip(), str(row["question"])
    letter = right if re.fullmatch("[A-D]", right) else None
    yield Item(
        id=f"{question}|{picture_name(row['image'])}",
        task="choice" if letter else "text",
        text=question,
        answer=choice_answer(lettered(question, letter), letter_index(letter)) if letter else {"text": [right]},
        media=picture(row["image"]),
        named=True,
    )


def mmstar_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An MMStar row: the options are part of the question."""
    yield Item(
        id=str(row["index"]),
        task="choice",
        text=f"{row['question']}\n{LETTER_ONLY}",
        answer=choice_answer(lettered(str(row["question"]), str(row["answer"])), letter_index(row["answer"])),
        media=picture(row["image"]),
        meta={"ability": row["category"]},
    )


def choice_or_text(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """`choice_match` for choices, `text_match` for everything else.

    >>> choice_or_text([Rollout("3.", {"text": ["3"]}, task="text")])[0].score
    1.0
    """
    return by_task(rollouts, {"choice": get("choice_match")}, get("text_match"))


def lettered(question: str, right: str = "A") -> list[str]:
    """The options in the text of a question ("A: cat, B: dog" or lines "A. cat"); four nameless ones if it has none, or
    not the right one.

    >>> lettered("What is it? Options: A: cat, B: red dog"), lettered("Which?")[0]
    (['cat', 'red dog'], 'option A')
    """
    matches = re.findall(r"(?:^|[\s(])([A-H])[:.)]\s*(.+?)\s*(?=,?\s+\(?[B-H][:.)]\s|\n|$)", question)
    inorder = [text for (letter, text), right in zip(matches, "ABCDEFGH", strict=False) if letter == right]
    listed_all = len(matches) == len(inorder) > max(1, letter_index(right))
    return inorder if listed_all else [f"option {letter}" for letter in "ABCD"]


def _asked(
    name: Any, question: Any, options: Sequence[str], right: int, images: Sequence[Any], *, hint: str = "", **meta: Any
) -> Item:
    media = tuple(medium for image in images for medium in picture(image))
    known = str(name) if name is not None else f"{question}|{'|'.join(options)}|{picture_name(images[0])}"
    text = choice_text(str(question), options, hint=hint)
    return Item(known, "choice", text, choice_answer(options, right), media, meta, named=name is None)


def _rotation(row: Row, name: str, turn: int, options: Sequence[str], right: int) -> Item:
    question = str(int(row["index"]) % TURN)
    hint = str(row["hint"]) if _there(row.get("hint")) else ""
    kinds = {"category": row.get("category"), "ability": row.get("L2-category")}
    return Item(
        id=name,
        task="choice",
        text=choice_text(str(row["question"]), options, hint=hint),
        answer=choice_answer(options, right),
        media=picture(row["image"]),
        meta={"question": question, "turn": turn, **kinds},
        group=question,
    )


def _filled(row: Row) -> tuple[list[str], int]:
    """The options in the non-empty columns A to E, and the place of the right one among them."""
    filled = {letter: str(row[letter]) for letter in "ABCDE" if _there(row.get(letter))}
    right = ascii_uppercase[letter_index(row["answer"])]
    if right not in filled:
        raise InputError(f"question {row['index']}: the answer is {right}, and filled are {', '.join(filled)}")
    return list(filled.values()), list(filled).index(right)


def _there(value: Any) -> bool:
    return value is not None and str(value).strip().lower() not in ("", "nan")


_MMBENCH = ("index", "question", "A", "B", "answer", "image")
_SEED = ("question_id", "question", "choice_a", "choice_b", "choice_c", "choice_d", "answer", "data_type", "image")

BENCHMARKS = [
    *(
        Benchmark(
            name=f"mmbench_{language}",
            version=2,
            about="A letter, once for every rotation of the options. Circular accuracy: all rotations must be right.",
            hub="lmms-lab/MMBench",
            columns=_MMBENCH,
            items=rotations,
            scorers=LETTER,
            metrics=circular_metrics,
            known_by="circular",
            split="dev",
            rows=1164,
            folders=(language,),
        )
        for language in ("en", "cn")
    ),
    Benchmark(
        name="mmbench_circular",
        version=2,
        about="As mmbench_en, from a file that holds the rotations already.",
        hub="lmms-lab/MMBench",
        columns=_MMBENCH,
        items=circular_rows,
        scorers=LETTER,
        metrics=circular_metrics,
        known_by="circular",
        split="dev",
    ),
    Benchmark(
        name="seedbench",
        version=2,
        about="A letter, with one image or several frames. Accuracy by kind of data.",
        hub="lmms-lab/SEED-Bench",
        columns=_SEED,
        items=seed_items,
        scorers=LETTER,
        metrics=scored_by("kind"),
        rows=17990,
    ),
    *(
        Benchmark(
            name=name,
            version=2,
            about="A letter about a diagram, with or without masks over its labels. Accuracy.",
            hub=hub,
            columns=("question", "options", "answer", "image"),
            items=ai2d_items,
            scorers=LETTER,
            metrics=scored_by(),
            rows=3088,
        )
        for name, hub in (("ai2d", "lmms-lab/ai2d"), ("ai2d_no_mask", "lmms-lab/ai2d-no-mask"))
    ),
    Benchmark(
        name="scienceqa_img",
        version=2,
        about="A letter; only questions with an image. Accuracy.",
        hub="lmms-lab/ScienceQA",
        columns=("question", "choices", "answer", "image"),
        items=scienceqa_items,
        scorers=LETTER,
        metrics=scored_by(),
        rows=4241,
        size=2017,
        folders=("ScienceQA-IMG",),
    ),
    Benchmark(
        name="blink",
        version=2,
        about="A letter, with up to four images. Accuracy: the mean, and the mean over subtasks.",
        hub="BLINK-Benchmark/BLINK",
        columns=("idx", "prompt", "choices", "answer", "image_1"),
        items=blink_items,
        scorers=LETTER,
        metrics=scored_by("subtask", macro="subtask"),
        split="val",
        rows=1901,
    ),
    Benchmark(
        name="realworldqa",
        version=2,
        about="A letter or a word, as the question says. Accuracy.",
        hub="xai-org/RealworldQA",
        columns=("question", "answer", "image"),
        items=realworldqa_items,
        scorers={"accuracy": default("eval.benchmarks.published.choice:choice_or_text")},
        metrics=scored_by(),
        rows=765,
    ),
    Benchmark(
        name="mmstar",
        version=2,
        about="A letter; questions that need the image. Accuracy: the mean, and the mean over abilities.",
        hub="Lin-Chen/MMStar",
        columns=("index", "question", "answer", "category", "image"),
        items=mmstar_items,
        scorers=LETTER,
        metrics=scored_by("ability", macro="ability"),
        split="val",
        rows=1500,
    ),
]
