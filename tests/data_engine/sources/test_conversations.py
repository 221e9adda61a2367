"""Conversations in the formats of LLaVA, ShareGPT, VLM-R1 and ms-swift become samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.recipe import Recipe, plan
from data_engine.sources.conversations import conversations, vlm_r1
from data_engine.sources.ms_swift import ms_swift
from data_engine.sources.verl import verl
from mmrl.core.config import InputError
from mmrl.core.config import validate as configured
from mmrl.core.vision import CoordinateSpace
from tests.support.rows import refused, sound, write


def talk(*texts: str, names: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": names[place % 2], "value": text} for place, text in enumerate(texts)]


def test_llava_conversations_end_in_their_gold(root: Path) -> None:
    rows = [{"id": "7", "image": "a.png", "conversations": talk("<image>\nWhat colour?", "Red.", "Sure?", "Yes.")}]
    (last,) = sound(conversations(path=write(root, "l.json", rows), root=root))
    assert last.answer == {"references": ["Yes."]}
    assert [message["role"] for message in last.prompt] == ["user", "assistant", "user"]
    assert last.prompt[0]["content"] == [{"type": "image"}, {"type": "text", "text": "What colour?"}]
    assert last.meta == {"id": "7", "where": "l.json:2"}
    (first,) = sound(conversations(path="l.json", root=root, turn="first", task="text"))
    assert first.answer == {"text": ["Red."]}
    assert len(first.prompt) == 1


def test_line_breaks_part_the_question_from_media_and_not_its_own_lines(root: Path) -> None:
    texts = {
        "One line\nand two.\n<image>\n<image>": [
            {"type": "text", "text": "One line\nand two."},
            *[{"type": "image"}] * 2,
        ],
        "<image>\nis A,\n<image>\nis B.\n": [
            *({"type": "image"}, {"type": "text", "text": "is A,\n"}),
            *({"type": "image"}, {"type": "text", "text": "\nis B.\n"}),
        ],
    }
    rows = [{"images": ["a.png"] * 2, "conversations": talk(text, "Yes.")} for text in texts]
    samples = sound(conversations(path=write(root, "l.json", rows), root=root))
    assert [sample.prompt[0]["content"] for sample in samples] == list(texts.values())


def test_sharegpt_rows_may_have_a_system_and_many_images(root: Path) -> None:
    row = {"system": "Be short.", "images": ["a.png", "a.png"], "conversations": talk("Same?", "Yes")}
    (sample,) = sound(conversations(path=write(root, "s.jsonl", [row]), root=root, task="yesno"))
    assert [message["role"] for message in sample.prompt] == ["system", "user"]
    assert [part["type"] for part in sample.prompt[1]["content"]] == ["image", "image", "text"]


def test_every_picture_of_a_conversation_is_shown_in_its_turn(root: Path) -> None:
    talks = [
        (["a.png", "a.png"], talk("<image>Red?", "Yes.", "And <image>?", "No.")),
        (["a.png"], talk("Ready?", "Yes.", "And <image>?", "No.")),
        (["a.png", "a.png"], talk("<image>Red?", "Yes.", "Sure?", "No.")),
        (["a.png"], talk("<image>Red?", "Yes.", "And <image>?", "No.")),
    ]
    path = write(root, "s.jsonl", [{"images": images, "conversations": turns} for images, turns in talks])
    turns: dict[Literal["first", "last"], list[int]] = {"first": [1, 0], "last": [2, 1]}
    for turn, counts in turns.items():
        items = list(conversations(path=path, root=root, task="text", turn=turn))
        assert [len(sample.media) for sample in sound(items[:2])] == counts
        assert refused(items) == [("marker_mismatch", "s.jsonl:3"), ("marker_mismatch", "s.jsonl:4")]


def test_choices_and_detections_are_read_from_texts(root: Path) -> None:
    chosen = [
        ("<image>What?\nA. a cat\nB. a dog\nAnswer with the letter.", "B"),
        ("<image>A. Smith saw\n(A) a cat\n(B) a dog", "(B) a dog"),
        ("<image>What?\n\nA) a cat\n\nB) a dog\n", "It is a dog."),
        ("<image>What?\nA. a cat\nB. a dog", "C"),
        ("<image>What?\nA. a cat\nthat sleeps\nB. a dog", "B"),
        ("<image>What?", "B"),
    ]
    rows = [{"image": "a.png", "conversations": talk(*turns)} for turns in chosen]
    items = list(conversations(path=write(root, "c.jsonl", rows), root=root, task="choice"))
    assert [sample.answer for sample in sound(items[:3])] == [{"choice": "B", "options": ["a cat", "a dog"]}] * 3
    assert refused(items) == [("bad_answer", "c.jsonl:4"), ("no_answer", "c.jsonl:5"), ("no_answer", "c.jsonl:6")]
    boxes = '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "dog"}]\n```'
    rows = [{"image": "a.png", "problem": "<image>All?", "solution": text} for text in (boxes, "[1, 2, 30, 40]")]
    items = list(vlm_r1(path=write(root, "d.jsonl", rows), root=root, task="detection"))
    assert sound(items[:1])[0].answer == {"boxes": [[1, 2, 30, 40], [5, 6, 7, 8]], "labels": ["cat", "dog"]}
    assert refused(items) == [("bad_answer", "d.jsonl:2")]
    easy = [{"problem": "What?\nA. 2\nB. 4", "answer": "B"}]
    pq.write_table(pa.Table.from_pylist(easy), root / "e.parquet")
    (sample,) = sound(verl(path="e.parquet", root=root, task="choice"))
    assert sample.answer == {"choice": "B", "options": ["2", "4"]}


@pytest.mark.parametrize("fn", ["conversations", "vlm_r1", "ms_swift", "verl"])
def test_a_task_that_no_text_answers_is_found_by_plan(root: Path, fn: str) -> None:
    pq.write_table(pa.Table.from_pylist([{"problem": "?", "answer": "B"}]), root / "e.parquet")
    for task, why in (
        ("preference", "cannot be .* preferred, candidates, is not a text"),
        ("choise", "; did you mean choice"),
    ):
        source = {"fn": fn, "args": {"path": "e.parquet", "task": task}}
        recipe = configured(Recipe, {"sources": [source], "operators": [{"fn": "validate"}], "root": root}, where="")
        with pytest.raises(InputError, match=f"source {fn}: .*task '?{task}'?.*{why}"):
            plan(recipe)


def test_what_stands_beside_a_conversation_counts(root: Path) -> None:
    (root / "a.mp4").touch()
    row = {"video": "a.mp4", "start": 5, "end": 9, "conversations": talk("<image>\nWhen?", "From 6.0 to 7.0.")}
    (cut,) = sound(conversations(path=write(root, "v.jsonl", [row]), root=root, task="temporal"))
    assert (cut.answer, cut.media[0].kind) == ({"spans": [[1, 2]]}, "video")  # <image> means the video
    assert (cut.media[0].start, cut.media[0].end) == (5, 9)
    pair = {"videos": ["a.mp4"], "conversations": talk("<image><image>When?", "Now.")}
    assert refused(conversations(path=write(root, "v.jsonl", [pair]), root=root)) == [("marker_mismatch", "v.jsonl:1")]
    asked = {"images": ["a.png"], "seen_size": [200, 100], "problem": "Where?", "solution": "[20, 10, 60, 80]"}
    (by_vlm_r1,) = sound(
        vlm_r1(path=write(root, "s.jsonl", [asked]), root=root, task="grounding", space=CoordinateSpace.resized)
    )
    pq.write_table(pa.Table.from_pylist([{**asked, "answer": asked["solution"]}]), root / "s.parquet")
    (by_verl,) = sound(verl(path="s.parquet", root=root, task="grounding", space=CoordinateSpace.resized))
    assert by_vlm_r1.answer == by_verl.answer == {"boxes": [[10, 5, 30, 40]]}


def test_broken_conversations_name_their_place(root: Path) -> None:
    rows = [
        {"conversations": []},
        {"conversations": talk("Hi")},
        {"conversations": [{"from": "cat", "value": "Miaow"}]},
        {"conversations": talk("<image> What?", "Red")},
        {"image": "../a.png", "conversations": talk("What?", "Red")},
        ["no", "object"],
        {"conversations": ["Hi", "You"]},
    ]
    refusals = refused(conversations(path=write(root, "b.jsonl", rows), root=root))
    reasons = ["no_conversation", "no_answer", "bad_turn", "marker_mismatch", "outside_root", "bad_row", "bad_turn"]
    assert refusals == [(reason, f"b.jsonl:{line}") for line, reason in enumerate(reasons, start=1)]


def test_vlm_r1_boxes_and_problems(root: Path) -> None:
    rows = [
        {"image": "a.png", "conversations": talk("<image>Where is it?", "<answer>[10, 20, 30, 40]</answer>")},
        {"image": ["a.png"], "problem": "Where?", "solution": '<answer>{"bbox_2d": [1, 2, 3, 4]}</answer>'},
        {"image": "a.png", "problem": "Where?", "solution": [5, 6, 7, 8], "normalized_solution": [50, 120, 70, 160]},
        {"image": "a.png", "problem": "Where?", "solution": "<answer>there</answer>"},
        {"image": "a.png", "problem": "Where?"},
    ]
    items = list(vlm_r1(path=write(root, "r.jsonl", rows), root=root, task="grounding"))
    assert [sample.answer["boxes"] for sample in sound(items[:3])] == [
        [[10, 20, 30, 40]],
        [[1, 2, 3, 4]],
        [[5, 6, 7, 8]],
    ]
    assert refused(items) == [("bad_answer", "r.jsonl:4"), ("no_conversation", "r.jsonl:5")]


def test_ms_swift_objects_fill_the_placeholders(root: Path) -> None:
    def row(question: str, answer: str, **objects: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {"messages": messages, "images": ["a.png"], "objects": objects}

    rows = [
        row("<image>Find <ref-object>.", "<bbox>", ref=["dog"], bbox=[[0.1, 0.2, 0.5, 0.8]], bbox_type="norm1"),
        row("<image>All?", "<ref-object><bbox><ref-object><bbox>", ref=["a", "b"], bbox=[[1, 2, 3, 4], [5, 6, 7, 8]]),
        row("<image>What is at <bbox>?", "A dog.", bbox=[[1, 2, 3, 4]]),
        row("<image>Find <ref-object>.", "<bbox><bbox>", ref=["dog"], bbox=[[1, 2, 3, 4]]),
        row("<image>Find it.", "<bbox>", bbox=3),
        row("<image>Find it.", "<bbox>", bbox=[[1, 2, 3, 4]], image_id=[1]),
        row("<image>Find it.", "It is at <bbox>.", bbox=[[1, 2, 3, 4], [5, 6, 7, 8]]),
        row("<image>Find it.", "Nowhere.", bbox=[[1, 2, 3, 4]]),
        row("<image>Click on <ref-object>.", "Click(<bbox>)", ref=["OK"], bbox=[[61, 22]]),
    ]
    items = list(ms_swift(path=write(root, "m.jsonl", rows), root=root))
    dog, both, asked, click = sound([*items[:3], items[-1]])
    assert (click.task, click.answer) == ("point", {"points": [[61, 22]]})
    assert (dog.task, dog.answer) == ("grounding", {"boxes": [[10, 10, 50, 40]]})
    assert dog.prompt[0]["content"][1]["text"] == "Find dog."
    assert (both.task, both.answer["labels"]) == ("detection", ["a", "b"])
    assert (asked.task, asked.prompt[0]["content"][1]["text"]) == ("open", "What is at [1, 2, 3, 4]?")
    assert refused(items) == [("bad_objects", f"m.jsonl:{line}") for line in (4, 5, 6, 7, 8)]
