"""Video: Video-MME, MVBench, TempCompass, Charades-STA and ActivityNet Captions.

Frames and pixels are the run's vision budget, which its report states. A video that does not decode stops the run
with its name, so it is never left out of a score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.base import (
    Benchmark,
    Item,
    Medium,
    Metrics,
    Row,
    choice_answer,
    choice_text,
    clip,
    default,
    letter_index,
    listed,
    variant,
)
from eval.benchmarks.files import rows_of
from eval.benchmarks.hallucination import yes_or_no
from eval.benchmarks.metrics import groups, micro, prefixed, scored_by, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

_NAMED_OPTION = re.compile(
    r"^((?:Caption|Option|Sentence|Description) (?:[A-H]|\d)|[A-H])[.:]\s*(.+?)\s*$", flags=re.MULTILINE
)
MVBENCH = (  # the files of its 20 tasks, whose rows do not say of which one they are
    *("action_antonym", "action_count", "action_localization", "action_prediction", "action_sequence"),
    *("character_order", "counterfactual_inference", "egocentric_navigation", "episodic_reasoning"),
    *("fine_grained_action", "fine_grained_pose", "moving_attribute", "moving_count", "moving_direction"),
    *("object_existence", "object_interaction", "object_shuffle", "scene_transition", "state_change"),
    "unexpected_action",
)
TEMPORAL = {
    "accuracy": default("eval.scorers.spans:span_hit", threshold=0.5),
    "iou": variant("span_iou"),
    "R1@0.3": variant("eval.scorers.spans:span_hit", threshold=0.3),
    "R1@0.5": variant("eval.scorers.spans:span_hit", threshold=0.5),
    "R1@0.7": variant("eval.scorers.spans:span_hit", threshold=0.7),
    "F1@0.3": variant("eval.scorers.spans:span_f1", threshold=0.3),
    "F1@0.5": variant("eval.scorers.spans:span_f1", threshold=0.5),
    "F1@0.7": variant("eval.scorers.spans:span_f1", threshold=0.7),
}


def videomme(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of Video-MME: options begin with their letters; the video is `<videoID>.mp4`."""
    options = [re.sub(r"^[A-Z]\.\s*", "", str(one)) for one in listed(row["options"])]
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
    """Rows of MVBench: of its official files, one for each task, with the name of the file as `task_type`."""
    for file in files:
        named = {"task_type": file.stem} if file.stem in MVBENCH else {}
        for row in rows_of([file], tuple(name for name in columns if name not in named)):
            yield {**named, **row}


def mvbench(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MVBench: the answer is the text of a candidate; `start` and `end` cut the video."""
    options, right = [str(one) for one in listed(row["candidates"])], str(row["answer"])
    if right not in options:
        raise InputError(f"the answer {right!r} is none of the candidates {options}")
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


def tempcompass(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of TempCompass: options are lines of the question ("A. ...", "Caption 1: ..."), or it asks yes or no."""
    question, right = str(row["question"]), str(row["answer"]).strip()
    lines = _NAMED_OPTION.findall(question)
    if lines:
        names, options = [name for name, _ in lines], [text for _, text in lines]
        place = next((i for i, name in enumerate(names) if re.match(rf"{name}(?!\w)", right)), None)
        if place is None:
            raise InputError(f"the answer {right!r} begins with none of {', '.join(names)}")
        answer: dict[str, Any] = choice_answer(options, place)
        answer |= {"names": names} if len(names[0]) > 1 else {}
        task = "choice"
    else:
        answer, task = {"yesno": yes_or_no(right)}, "yesno"
    yield Item(
        id=f"{row['video_id']}/{row['dim']}/{question}",
        task=task,
        text=question,
        answer=answer,
        media=(Medium(str(row.get("video") or f"{row['video_id']}.mp4"), "video"),),
        meta={"dimension": row["dim"], "kind": "caption_matching" if answer.get("names") else task},
        named=True,
    )


def tempcompass_captioning(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of TempCompass' captioning: a judge answers `mc_question` from the caption; `mc_answer` is "B. ..."."""
    quiz, right = str(row["mc_question"]), str(row["mc_answer"]).strip()
    options = [text for _, text in _NAMED_OPTION.findall(quiz)]
    answer = {**choice_answer(options, letter_index(right[:1])), "quiz": quiz}
    yield Item(
        id=f"{row['video_id']}/{row['dim']}/{quiz}",
        task="caption",
        text=str(row["question"]),
        answer=answer,
        media=(Medium(str(row.get("video") or f"{row['video_id']}.mp4"), "video"),),
        meta={"dimension": row["dim"]},
        named=True,
    )


def captioning_metrics(records: Sequence[Record]) -> Metrics:
    """The share of questions that a judge answers right from the caption, also by dimension."""
    parts = {name: micro(group, "judge_captioning") for name, group in groups(records, "dimension").items()}
    whole = {"judge_captioning": micro(records, "judge_captioning"), **prefixed("judge_captioning", parts)}
    return {**whole, "unparsed": unparsed_share(records, "judge_captioning")}


def moments(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of Charades-STA or ActivityNet Captions: a caption and its [start, end] in seconds, or several of them."""
    given = listed(row["timestamp"])
    several = [listed(one) for one in given] if isinstance(given[0], list | tuple) else [given]
    times = [sorted(float(value) for value in one) for one in several]
    if any(len(one) != 2 for one in times):
        raise InputError(f"{row['video']}: timestamp {given!r:.80} is not [start, end] in seconds")
    yield Item(
        id="/".join([str(row["video"]), str(row["caption"]), *(f"{start:g}-{end:g}" for start, end in times)]),
        task="temporal",
        text=f"When does this happen: {row['caption']}\nAnswer with [start, end] in seconds.",
        answer={"spans": times},
        media=(Medium(str(row["video"]), "video"),),
        named=True,
    )


def temporal_metrics(records: Sequence[Record]) -> Metrics:
    """R1 at each overlap, F1 of all spans said (for captions of several), and the mean overlap, failures counting 0."""
    names = [name for name in TEMPORAL if name not in ("accuracy", "iou")]
    found: Metrics = {name: micro(records, name) for name in names}
    return {**found, "mIoU": micro(records, "iou"), "unparsed": unparsed_share(records)}


LETTER = {"accuracy": default("choice_match")}
_MME = ("videoID", "question_id", "question", "options", "answer", "duration")
_MOMENTS = ("video", "caption", "timestamp")
BENCHMARKS = [
    Benchmark(
        "videomme",
        "lmms-lab/Video-MME",
        _MME,
        videomme,
        LETTER,
        scored_by("duration", "subtitles", "task_type"),
        rows=2700,
    ),
    Benchmark(
        "mvbench",
        "OpenGVLab/MVBench",
        ("video", "question", "candidates", "answer", "task_type"),
        mvbench,
        LETTER,
        scored_by("task_type", macro="task_type"),
        rows=4000,
        read=mvbench_rows,
    ),
    Benchmark(
        "tempcompass",
        "lmms-lab/TempCompass",
        ("video_id", "question", "answer", "dim"),
        tempcompass,
        {"accuracy": default("eval.scorers.tasks:tempcompass")},
        scored_by("dimension", "kind"),
        folders=("multi-choice", "yes_no", "caption_matching"),
        judged={"judge_published": variant("eval.scorers.published:tempcompass")},
    ),
    Benchmark(
        "tempcompass_captioning",
        "lmms-lab/TempCompass",
        ("video_id", "question", "dim", "mc_question", "mc_answer"),
        tempcompass_captioning,
        {},
        captioning_metrics,
        rows=2004,
        judged={"judge_captioning": default("eval.scorers.published:tempcompass_caption")},
        needs="a judge (published: GPT-3.5)",
        folders=("captioning",),
    ),
    Benchmark(
        "charades_sta", "lmms-lab/charades_sta", _MOMENTS, moments, TEMPORAL, temporal_metrics, rows=3720, version=2
    ),
    Benchmark("activitynet_captions", "lmms-lab/activitynet", _MOMENTS, moments, TEMPORAL, temporal_metrics, version=2),
]
