"""Rows of every registered benchmark in its own layout, and what oracles would answer to them."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.schema import Sample
from eval.benchmarks import find_benchmark
from eval.benchmarks.base import BenchmarkFiles
from eval.benchmarks.load import benchmark_samples, metrics_of
from eval.records import Record
from eval.sample_sets import SampleSet
from eval.score import evaluation_suite, scored
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout
from rewards.judge_client.judge_spec import JudgeSpec
from tests.support.benchmark_files import EDITED, FILES, cell, png, write_edits, write_files
from tests.support.clips import write_clip

CLIP_SECONDS = 2.0


def letters(count: int) -> dict[str, Any]:
    """Columns that no benchmark reads, as real files have them."""
    return {f"unused_{i}": "" for i in range(count)}


REFCOCO = [
    {
        "question_id": str(i),
        "image": cell(i),
        "question": "Please describe",
        "answer": ["left thing", "the red thing"],
        "bbox": [4.0, 6.0, 20.0, 10.0],
        "file_name": f"COCO_train2014_{i}.jpg",
    }
    for i in range(2)
]
MMBENCH = [
    {
        "index": i,
        "question": f"Which animal is number {i}?",
        "hint": "",
        "A": "cat",
        "B": "dog",
        "C": "emu",
        "D": "cow" if i else "",
        "answer": "BA"[i],
        "category": "object",
        "L2-category": ["finegrained", "coarse"][i],
        "image": b64encode(png(i)).decode(),
    }
    for i in range(2)
]
SEED = [
    {
        "question_id": str(i),
        "question": "How many cars?",
        **{f"choice_{letter}": word for letter, word in zip("abcd", ("One", "Two", "Three", "Four"), strict=True)},
        "answer": "AB"[i],
        "data_type": ["image", "video"][i],
        "image": [cell(i)] if i == 0 else [cell(2), cell(3)],
    }
    for i in range(2)
]
AI2D = [
    {"question": f"What is part {i}?", "options": ["stem", "leaf", "root", "seed"], "answer": str(i), "image": cell(i)}
    for i in range(2)
]
SCIENCEQA = [
    {"question": f"Which is {i}?", "choices": ["ice", "steam"], "answer": i % 2, "hint": "Look.", "image": image}
    for i, image in enumerate([cell(0), cell(1), None])
]
BLINK = [
    {
        "idx": f"val_{task}_{i}",
        "sub_task": task,
        "prompt": f"Which of {i}?\n(A) the first\n(B) the second",
        "choices": ["the first", "the second"],
        "answer": "(A)" if i else "(B)",
        "image_1": cell(0),
        "image_2": cell(1) if task == "Counting" else None,
        "image_3": None,
        "image_4": None,
    }
    for task, count in (("Counting", 2), ("Jigsaw", 1))
    for i in range(count)
]
REALWORLD = [
    {"question": "Where to?\n\nA. Left\nB. Right\nPlease answer with the letter.", "answer": "B", "image": cell(0)},
    {"question": "How many lanes? Please answer with a number.", "answer": "3", "image": cell(1)},
]
MMSTAR = [
    {
        "index": i,
        "question": "Which is it?\nOptions: A: a cat, B: a dog, C: a red dog, D: none",
        "answer": "BC"[i],
        "category": ["math", "logical reasoning"][i],
        "image": cell(i),
    }
    for i in range(2)
]
MMMU = [
    {
        "id": "validation_Art_1",
        "question": "Compare <image 2> with <image 1>.",
        "options": "['old', 'new', 'both']",
        "answer": "B",
        "question_type": "multiple-choice",
        "image_1": cell(0),
        "image_2": cell(1),
    },
    {
        "id": "validation_Finance_2",
        "question": "What is the price in <image 1>?",
        "options": "[]",
        "answer": "['1200', 'twelve hundred']",
        "question_type": "open",
        "image_1": cell(2),
        "image_2": None,
    },
]
DOCVQA = [
    {
        "questionId": str(i),
        "question": "Who signed?",
        "image": cell(0),
        "answers": ["Ann Lee", "A. Lee"],
        "docId": 7,
        "question_types": ["handwritten"],
    }
    for i in range(2)
]
CHARTQA = [
    {"type": "human_test", "question": "Share of red?", "answer": "40%", "image": cell(0)},
    {"type": "augmented_test", "question": "In which year?", "answer": "2010", "image": cell(1)},
]
VQAV2 = [
    {
        "question_id": 1,
        "question": "What colour?",
        "image": cell(0),
        "answers": [{"answer": "red", "answer_confidence": "yes", "answer_id": i} for i in range(10)],
        "answer_type": "other",
    }
]
TEXTVQA = [{"question_id": 5, "question": "What brand?", "image": cell(0), "answers": ["nokia"] * 9 + ["phone"]}]
VIZWIZ = [{"question_id": "v1", "question": "What is it?", "image": cell(0), "answers": ["unanswerable"] * 10}]
EXACT = [{"id": "g1", "question": "What is left?", "answer": "chair", "image": cell(0)}]
OCRBENCH = [
    {
        "dataset": dataset,
        "question": f"Read {dataset}.",
        "question_type": kind,
        "answer": ["Centre"],
        "image": cell(i),
    }
    for i, (dataset, kind) in enumerate(
        [
            ("IIIT5K", "Regular Text Recognition"),
            ("HME100k", "Handwritten Mathematical Expression Recognition"),
            ("docVQA", "Doc-oriented VQA"),
        ]
    )
]
MATHVISTA = {
    "1": {
        "pid": "1",
        "question": "How much?",
        "decoded_image": "0.png",
        "choices": None,
        "unit": "cm",
        "precision": 2.0,
        "answer": "0.67",
        "question_type": "free_form",
        "answer_type": "float",
        "metadata": {"task": "geometry", "category": "math", "skills": ["algebra", "geometry"], "source": "UniGeo"},
    },
    "2": {
        "pid": "2",
        "question": "Which?",
        "decoded_image": "1.png",
        "choices": ["blue", "green"],
        "unit": None,
        "precision": None,
        "answer": "green",
        "question_type": "multi_choice",
        "answer_type": "text",
        "metadata": {"task": "figure", "category": "general-vqa", "skills": ["algebra"], "source": "FigureQA"},
    },
}
MATHVERSE = [
    {
        "sample_index": str(i),
        "problem_index": "1",
        "problem_version": version,
        "question": "Find x.",
        "question_for_eval": "Find x.\nChoices:\nA:30\nB:40" if i % 2 else "Find x.",
        "query_wo": f"Find x ({version}).",
        "image": cell(0),
        "answer": "B" if i % 2 else "\\frac{1}{2}",
        "question_type": "multi-choice" if i % 2 else "free-form",
        "metadata": {"subject": "plane", "subfield": "angle"},
    }
    for i, version in enumerate(
        ["Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only", "Text Only"]
    )
]
MATHVISION = [
    {
        "id": str(i),
        "question": "How many?\n<image1>",
        "options": ["3", "4"] if i else [],
        "answer": "B" if i else "1/3",
        "decoded_image": cell(i),
        "level": i + 1,
        "subject": "counting",
    }
    for i in range(2)
]
POPE = [
    {
        "question_id": str(i),
        "question": f"Is there a dog {i}?",
        "answer": ["yes", "no"][i],
        "category": category,
        "image": cell(0),
        "image_source": "COCO_val2014",
    }
    for category in ("random", "popular", "adversarial")
    for i in range(2)
]
HALLUSION = [
    {
        "category": category,
        "subcategory": "chart",
        "set_id": "0",
        "figure_id": str(figure),
        "question_id": str(question),
        "visual_input": "0" if (category, figure) == ("VS", 0) else "1",
        "question": f"Is it {question}?",
        "gt_answer": str((figure + question) % 2),
        "image": None if (category, figure) == ("VS", 0) else cell(figure),
    }
    for category in ("VD", "VS")
    for figure in range(2)
    for question in range(2)
]
AMBER = [
    {"id": i, "image": f"{i % 2}.png", "query": f"Is it {i}?", "truth": ["yes", "no"][i % 2], "type": kind}
    for i, kind in enumerate(
        [
            "discriminative-hallucination",
            "discriminative-hallucination",
            "discriminative-attribute-state",
            "discriminative-relation",
        ]
    )
]
VIDEOMME = [
    {
        "videoID": "clip",
        "question_id": f"00{i}",
        "question": "What happens?",
        "options": ["A. He runs.", "B. He sits.", "C. He eats.", "D. He reads."],
        "answer": "CD"[i],
        "duration": ["short", "long"][i],
        "domain": "Life",
        "sub_category": "Sport",
        "task_type": "Action",
    }
    for i in range(2)
]
MVBENCH = [
    {
        "video": "clip.mp4",
        "start": start,
        "end": end,
        "question": f"What moves {i}?",
        "candidates": ["up", "down", "no way"],
        "answer": "down",
        "task_type": kind,
    }
    for i, (kind, start, end) in enumerate([("Moving Direction", 0.2, 1.4), ("Action Count", None, None)])
]
TEMPCOMPASS = [
    {
        "video_id": "clip",
        "question": "Which caption fits?\nOption 1: It runs\nOption 2: It sits",
        "answer": "Option 2: It sits",
        "dim": "action",
    },
    {"video_id": "clip", "question": "Which way?\nA. left\nB. right", "answer": "B. right", "dim": "direction"},
    {"video_id": "clip", "question": "Does it speed up?", "answer": "yes", "dim": "speed"},
]
MOMENTS = [{"video": "clip.mp4", "caption": f"person {i} turns", "timestamp": [0.4, 1.6]} for i in range(2)]

ROWS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("refcoco_val", "refcoco_testA", "refcoco_testB"), (REFCOCO, "parquet")),
    **dict.fromkeys(("refcoco_plus_val", "refcoco_plus_testA", "refcoco_plus_testB"), (REFCOCO, "parquet")),
    **dict.fromkeys(("refcocog_val", "refcocog_test"), (REFCOCO, "parquet")),
    "mmbench_en": (MMBENCH, "tsv"),
    "mmbench_cn": (MMBENCH, "tsv"),
    "mmbench_circular": (
        [{**MMBENCH[0], "index": 0}, {**MMBENCH[0], "index": 1_000_000, "A": "dog", "B": "cat", "answer": "A"}],
        "tsv",
    ),
    "seedbench": (SEED, "parquet"),
    "ai2d": (AI2D, "parquet"),
    "ai2d_no_mask": (AI2D, "parquet"),
    "scienceqa_img": (SCIENCEQA, "parquet"),
    "blink": (BLINK, "parquet"),
    "realworldqa": (REALWORLD, "parquet"),
    "mmstar": (MMSTAR, "parquet"),
    "mmmu_val": (MMMU, "parquet"),
    "docvqa": (DOCVQA, "parquet"),
    "infovqa": (DOCVQA, "parquet"),
    "chartqa": (CHARTQA, "parquet"),
    "vqav2": (VQAV2, "parquet"),
    "textvqa": (TEXTVQA, "parquet"),
    "vizwiz": (VIZWIZ, "parquet"),
    "gqa": (EXACT, "parquet"),
    "ocrvqa": (EXACT, "parquet"),
    "ocrbench": (OCRBENCH, "parquet"),
    "mathvista": (MATHVISTA, "json"),
    "mathverse": (MATHVERSE, "parquet"),
    "mathvision": (MATHVISION, "parquet"),
    "pope": (POPE, "parquet"),
    "hallusionbench": (HALLUSION, "parquet"),
    "amber_discriminative": (AMBER, "json"),
    "videomme": (VIDEOMME, "parquet"),
    "mvbench": (MVBENCH, "json"),
    "tempcompass": (TEMPCOMPASS, "parquet"),
    "charades_sta": (MOMENTS, "jsonl"),
    "activitynet_captions": (MOMENTS, "jsonl"),
    **FILES,
}


def write_rows(directory: Path, rows: Any, suffix: str, name: str = "data") -> Path:
    """The rows as a file of the format, beside the media that rows name by path."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(2):
        (directory / f"{i}.png").write_bytes(png(i))
    if "clip" in str(rows):
        write_clip(directory / "clip.mp4", 50, fps=25)
    if suffix == "dir":
        return write_files(directory, rows)
    file = directory / f"{name}.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    elif suffix in ("tsv", "csv"):
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]), delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(rows))
    return file


def benchmark(
    name: str, directory: Path, rows: Any = None, *, limit: int | None = None, shade: int | None = 255
) -> SampleSet:
    """The named benchmark on its fixture, or on other rows of its format; edits are of one `shade`."""
    file = write_rows(directory / "rows", ROWS[name][0] if rows is None else rows, ROWS[name][1])
    edits = str(write_edits(directory / "edits", name, shade)) if name in EDITED else None
    data = BenchmarkFiles(path=str(file), limit=limit, edits=edits)
    return benchmark_samples(name, data, space=CoordinateSpace.pixel, media=directory / "media")


def answered(
    name: str, samples: Sequence[Sample], reply: Callable[[Sample], str], judge: JudgeSpec | None = None
) -> list[Record]:
    """The scored records of a model that says `reply`."""
    judges = {"judge": judge} if judge else {}
    suite = evaluation_suite(find_benchmark(name).scorers_with(judges), judges)
    records = [
        replace(_EMPTY, key=s.id, benchmark=name, item_id=s.id, task=s.task, source=s.source, response=reply(s),
                gold=s.answer, media=[m.row() for m in s.media], meta={**s.meta, "space": "pixel"},
                prompt=s.prompt)
        for s in samples
    ]  # fmt: skip
    return scored(records, suite, "test")


def numbers(
    name: str, samples: Sequence[Sample], reply: Callable[[Sample], str], judge: JudgeSpec | None = None
) -> dict[str, float | None]:
    """The benchmark's numbers of a model that says `reply`."""
    found = metrics_of(answered(name, samples, reply, judge))
    assert found is not None
    return found


def gold(sample: Sample) -> str:
    """What the best of models says."""
    answer = sample.answer
    if "names" in answer:
        return answer["names"]["ABCDEFGH".index(answer["choice"])]
    if "choice" in answer:
        return answer["options"]["ABCDEFGH".index(answer["choice"])] if sample.task == "caption" else answer["choice"]
    if answer.get("choices"):
        return "ABCDEFGH"[answer["choices"].index(answer["text"])]
    if sample.task == "yesno":
        return "Yes" if answer["yesno"] else "No"
    if sample.task == "math":
        return f"\\boxed{{{answer['math']}}}"
    if sample.task == "grounding":
        return str(answer["boxes"][0])
    if sample.task == "temporal":
        return str(answer["spans"][0])
    if sample.task == "detection":
        return json.dumps(
            [{"bbox_2d": box, "label": label} for box, label in zip(answer["boxes"], answer["labels"], strict=True)]
        )
    if sample.task == "edit":
        return ""
    if sample.task == "caption":
        return _best_caption(answer)
    if not answer["text"]:
        return "unknown"
    return answer["text"] if isinstance(answer["text"], str) else answer["text"][0]


def _best_caption(answer: Any) -> str:
    if "truth" in answer:
        return f"There is {' and '.join(answer['truth'])}."
    if "units" in answer:
        return ". ".join(answer["units"])
    if "quiz" in answer and not isinstance(answer["quiz"], str):
        return " ".join(one["options"][one["right"]] for one in answer["quiz"])
    if "objects" in answer:
        return f"There is a {', a '.join(answer['objects'])}, near {answer['references'][0]}"
    return answer["references"][0]


def text_of(sample: Sample) -> str:
    """What a sample asks, without its media."""
    return sample.prompt[0]["content"][-1]["text"]


def score(reward: Any, reply: str, answer: Any, **options: Any) -> float | None:
    """What a reward gives a reply."""
    return reward([Rollout(reply, answer)], **options)[0].score


_EMPTY = Record("", "", "", "test", "", 0, "", "", "", [], [], [], "", 1, None)
