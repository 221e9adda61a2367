"""Rows of benchmarks whose answers are words, numbers or expressions."""

from __future__ import annotations

from tests.support.benchmarks.fixture import Fixture, cell, names

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
HIDDEN = [
    {
        "questionId": str(i),
        "question": "Who signed?",
        "image": cell(0),
        "answers": None,
        "docId": 7,
        "question_types": None,
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
    {"dataset": dataset, "question": f"Read {dataset}.", "question_type": kind, "answer": ["Centre"], "image": cell(i)}
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


FIXTURES = {
    "docvqa": Fixture(DOCVQA),
    "infovqa": Fixture(DOCVQA),
    "docvqa_test": Fixture(HIDDEN),
    "infovqa_test": Fixture(HIDDEN),
    "chartqa": Fixture(CHARTQA),
    "vqav2": Fixture(VQAV2),
    "textvqa": Fixture(TEXTVQA, best=0.95),  # one annotator in ten disagrees
    "vizwiz": Fixture(VIZWIZ),
    "gqa": Fixture(EXACT),
    "ocrvqa": Fixture(EXACT),
    "ocrbench": Fixture(OCRBENCH, free=names("points")),
    "mathvista": Fixture(MATHVISTA, "json"),
    "mathverse": Fixture(MATHVERSE, free=names("text_only")),
    "mathvision": Fixture(MATHVISION),
}
