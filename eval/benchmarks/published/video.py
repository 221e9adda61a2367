"""Questions about videos with options: Video-MME and MVBench.

The vision budget of the run decides frames and pixels; the report states it. A video that does not decode stops the
run, so that no score leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from eval.benchmarks.base import Benchmark, Item, Medium, Row, default
from eval.benchmarks.cells import choice_answer, choice_text, clip, letter_index, listed, listed_texts
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import scored_by
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

MVBENCH = (  # the files of its 20 tasks; their rows do not name the task
    *("action_antonym", "action_count", "action_localization", "action_prediction", "action_sequence"),
    *("character_order", "counterfactual_inference", "egocentric_navigation", "episodic_reasoning"),
    *("fine_grained_action", "fine_grained_pose", "moving_attribute", "moving_count", "moving_direction"),
    *("object_existence", "object_interaction", "object_shuffle", "scene_transition", "state_change"),
    "unexpected_action",
)


def videomme_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of Video-MME: options begin with their letters; the video is `<videoID>.mp4`."""
    options = [re.sub(r"^[A-Z]\.\s*", "", str(option)) for option in listed(row["options"])]
    subtitles = f"Subtitles:\n{row['subtitles']}" if row.get("subtitles") else ""
    keys = ("duration", "domain", "sub_category", "task_type")
    yield Item(
        id=str(row["question_id"]),
        task="choice",
        text=choice_text(str(row["question"]), options, hint=subtitles),
        answer=choice_answer(options, letter_index(row["answer"])),
        media=(Medium(str(row.get("video") or f"{row['videoID']}.mp4"), "video"),),
        meta={**{key: row.get(key) for key in keys}, "subtitles": "with" if subtitles else "without"},
    )


def mvbench_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of MVBench. Rows of its official files, one for each task, get the name of the file as `task_type`."""
    for file in files:
        named = {"task_type": file.stem} if file.stem in MVBENCH else {}
        for row in rows_of([file], tuple(name for name in columns if name not in named)):
            yield {**named, **row}


def mvbench_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MVBench: the answer is the text of a candidate; `start` and `end` cut the video."""
    options, right = listed_texts(row["candidates"]), str(row["answer"])
    if right not in options:
        raise InputError(f"the answer {right!r} is not one of the candidates {options}")
    kind = str(row["task_type"])
    yield Item(
        id=f"{kind}/{row['video']}/{row.get('start')}/{row['question']}",
        task="choice",
        text=choice_text(str(row["question"]), options),
        answer=choice_answer(options, options.index(right)),
        media=(clip(row),),
        meta={"task_type": kind},
        named=True,
    )


LETTER = {"accuracy": default("choice_match")}
_MME = ("videoID", "question_id", "question", "options", "answer", "duration")


BENCHMARKS = [
    Benchmark(
        name="videomme",
        version=2,
        about="A letter about a video, with or without subtitles. Accuracy by duration.",
        hub="lmms-lab/Video-MME",
        columns=_MME,
        items=videomme_items,
        scorers=LETTER,
        metrics=scored_by("duration", "subtitles", "task_type"),
        rows=2700,
    ),
    Benchmark(
        name="mvbench",
        version=2,
        about="A letter about a clip. Accuracy by task, and the mean over the 20 tasks.",
        hub="OpenGVLab/MVBench",
        columns=("video", "question", "candidates", "answer", "task_type"),
        items=mvbench_items,
        scorers=LETTER,
        metrics=scored_by("task_type", macro="task_type"),
        rows=4000,
        read=mvbench_rows,
    ),
]
