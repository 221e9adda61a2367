"""Rows of benchmarks whose answers are boxes, letters, yes or no, or come from a video."""

from __future__ import annotations

from base64 import b64encode

from tests.support.benchmarks.fixture import Fixture, cell, names, png

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
CAPTIONING = [
    {"video_id": "clip", "question": "Describe the video.", "dim": "direction",
     "mc_question": "Which way?\nA. leftwards\nB. rightwards", "mc_answer": "B. rightwards"}
]  # fmt: skip
MOMENTS = [{"video": "clip.mp4", "caption": f"person {i} turns", "timestamp": [0.4, 1.6]} for i in range(2)]


FIXTURES = {
    **dict.fromkeys(("refcoco_val", "refcoco_testA", "refcoco_testB"), Fixture(REFCOCO)),
    **dict.fromkeys(("refcoco_plus_val", "refcoco_plus_testA", "refcoco_plus_testB"), Fixture(REFCOCO)),
    **dict.fromkeys(("refcocog_val", "refcocog_test"), Fixture(REFCOCO)),
    "mmbench_en": Fixture(MMBENCH, "tsv"),
    "mmbench_cn": Fixture(MMBENCH, "tsv"),
    "mmbench_circular": Fixture(
        [{**MMBENCH[0], "index": 0}, {**MMBENCH[0], "index": 1_000_000, "A": "dog", "B": "cat", "answer": "A"}], "tsv"
    ),
    "seedbench": Fixture(SEED),
    "ai2d": Fixture(AI2D),
    "ai2d_no_mask": Fixture(AI2D),
    "scienceqa_img": Fixture(SCIENCEQA),
    "blink": Fixture(BLINK),
    "realworldqa": Fixture(REALWORLD),
    "mmstar": Fixture(MMSTAR),
    "mmmu_val": Fixture(MMMU),
    "pope": Fixture(POPE, free=names("yes_ratio"), silent=names("official")),  # its parser hears a yes in silence
    "hallusionbench": Fixture(HALLUSION),
    "amber_discriminative": Fixture(AMBER, "json", free=names("yes_ratio"), empty=names("state attribute recall f1")),
    "videomme": Fixture(VIDEOMME),
    "mvbench": Fixture(MVBENCH, "json"),
    "tempcompass": Fixture(TEMPCOMPASS),
    "tempcompass_captioning": Fixture(CAPTIONING),
    "charades_sta": Fixture(MOMENTS, "jsonl"),
    "activitynet_captions": Fixture(MOMENTS, "jsonl"),
}
