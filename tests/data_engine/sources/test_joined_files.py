"""VQAv2, OCR-VQA, OS-Atlas and Ego4D: files whose questions, answers and media are joined by their ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_engine.sources.moments import ego4d_nlq
from data_engine.sources.phrases import os_atlas
from data_engine.sources.vqa import ocr_vqa, vqa_v2
from mmrl.core.config import InputError
from tests.support.clips import write_clip
from tests.support.rows import reasons, refused, sound, write

FILES = {"questions": "q.json", "annotations": "a.json", "images": "."}


def vqa_files(root: Path, asked: list[Any], told: list[Any]) -> None:
    (root / "q.json").write_text(json.dumps({"info": {}, "data_type": "mscoco", "questions": asked}))
    (root / "a.json").write_text(json.dumps({"info": {}, "annotations": told}))


def told(number: int, *answers: str, image: int = 9) -> dict[str, Any]:
    said = [{"answer": text, "answer_confidence": "yes", "answer_id": place} for place, text in enumerate(answers, 1)]
    about = {"question_type": "what is", "answer_type": "other", "multiple_choice_answer": answers[0]}
    return {"image_id": image, "question_id": number, "answers": said, **about}


def test_vqa_v2_joins_questions_and_answers_by_their_id(root: Path) -> None:
    (root / "a.png").rename(root / "COCO_train2014_000000000009.png")
    asked = [{"image_id": 9, "question": f"What {name}?", "question_id": n} for n, name in enumerate("abc")]
    most = ["sofa"] * 5 + ["couch"] * 3 + ["chair"] * 2
    vqa_files(root, asked, [told(1, *["red"] * 10), told(0, *most), told(7, "no")])
    items = list(vqa_v2(**FILES, root=root))
    first, second = sound(items[:2])
    assert first.answer == {"text": ["sofa", "couch"], "answers": most}
    assert (first.prompt[0]["content"][1]["text"], second.answer["text"]) == ("What a?", ["red"])
    assert first.meta == {"question_type": "what is", "answer_type": "other", "where": "q.json: questions[0]"}
    assert reasons(items[2:]) == ["no_answer", "no_question"]


def test_vqa_v2_takes_no_other_picture(root: Path) -> None:
    for name in ("COCO_train2014_000000000009.png", "abstract_v002_train2015_000000000009.png"):
        (root / name).write_bytes((root / "a.png").read_bytes())
    asked = [{"image_id": image, "question": "What?", "question_id": image} for image in (9, 10, 11)]
    vqa_files(root, asked, [told(9, "a"), told(10, "b", image=10), told(11, "c")])
    assert reasons(vqa_v2(**FILES, root=root)) == ["missing", "missing", "bad_row"]
    vqa_files(root, asked, [told(90, "a")])
    with pytest.raises(InputError, match="take two files of one split"):
        list(vqa_v2(**FILES, root=root))
    with pytest.raises(InputError, match="has nothing at annotations"):
        list(vqa_v2(**{**FILES, "annotations": "q.json"}, root=root))


def test_ocr_vqa_has_the_questions_of_a_cover_in_two_lists(root: Path) -> None:
    (root / "a.png").rename(root / "0425.png")
    cover = {"imageURL": "http://ecx.example.org/images/I/51.png", "split": 1, "genre": "Crafts"}
    asked = {"questions": ["Who wrote this book?", "Is it about art?"], "answers": ["Jo Doe", "Yes"]}
    short = {**cover, "questions": ["Who?", "What?"], "answers": ["me"]}
    files = {"0425": {**cover, **asked}, "1": short, "2": {**cover, **asked, "split": 4}}
    (root / "o.json").write_text(json.dumps(files))
    items = list(ocr_vqa(path="o.json", images=".", root=root))
    first, second = sound(items[:2])
    assert (first.answer, second.answer, first.meta["split"]) == ({"text": ["Jo Doe"]}, {"text": ["Yes"]}, "train")
    assert refused(items) == [("bad_row", "o.json: 1"), ("bad_row", "o.json: 2")]
    assert reasons(ocr_vqa(path="o.json", images=".", root=root, split="test")) == ["bad_row", "bad_row"]


@pytest.mark.parametrize("content", ["[]", '[{"image": "a.png"}]', '{"questions": []}', "no JSON"])
def test_a_file_of_another_kind_is_refused(root: Path, content: str) -> None:
    (root / "other.json").write_text(content)
    with pytest.raises(InputError, match=r"other\.json is no file of OCR-VQA"):
        list(ocr_vqa(path="other.json", images=".", root=root))
    with pytest.raises(InputError, match=r"other\.json is no file of OS-Atlas"):
        list(os_atlas(annotations="other.json", images=".", root=root))


def test_os_atlas_elements_have_boxes_from_0_to_1(root: Path) -> None:
    button = {"instruction": "close the window", "bbox": [0.1, 0.2, 0.5, 0.6], "data_type": "icon"}
    odd = [{**button, "bbox": [10, 10, 50, 30]}, {**button, "instruction": " "}, "button"]
    rows = [{"img_filename": "a.png", "elements": [button, *odd]}, {"img_filename": "a.png", **button}, {"url": "x"}]
    path = write(root, "atlas.json", rows)
    items = list(os_atlas(annotations=path, images=".", root=root))
    assert reasons(items) == ["grounding", "bad_box", "no_question", "bad_box", "grounding", "bad_row"]
    (first,) = sound(items[:1])
    assert (first.answer, first.meta["data_type"]) == ({"boxes": [[10, 10, 50, 30]]}, "icon")
    point = next(iter(os_atlas(annotations=path, images=".", root=root, task="point")))
    assert sound([point])[0].answer == {"boxes": [[10, 10, 50, 30]], "points": [[30, 20]]}


def nlq(root: Path, *queries: Any) -> str:
    clip = {"clip_uid": "c1", "video_start_sec": 0.5, "video_end_sec": 1.9}
    whole = {"video_uid": "v1", "split": "val", "clips": [{**clip, "annotations": [{"language_queries": [*queries]}]}]}
    (root / "nlq.json").write_text(json.dumps({"version": "1", "videos": [whole, {"video_uid": "v2"}]}))
    return "nlq.json"


def test_ego4d_queries_are_asked_about_the_clip_or_its_part_of_the_video(root: Path) -> None:
    times = {"clip_start_sec": 0.2, "clip_end_sec": 0.9, "video_start_sec": 0.7, "video_end_sec": 1.4}
    path = nlq(root, {"query": "Where was the cup?", **times}, {"query": None, **times}, {"query": "What did I cut?"})
    write_clip(root / "v1.mp4", 50)
    items = list(ego4d_nlq(annotations=path, videos=".", root=root))
    (shown,) = sound(items[:1])
    assert (shown.answer, shown.media[0].start, shown.media[0].end) == ({"spans": [[0.2, 0.9]]}, 0.5, 1.9)
    assert refused(items) == [
        ("no_question", "nlq.json: c1#2"),
        ("no_answer", "nlq.json: c1#3"),
        ("bad_row", "nlq.json: videos[1]"),
    ]
    write_clip(root / "c1.mp4", 40)
    (alone, *_) = ego4d_nlq(annotations=path, videos=".", root=root)
    (alone,) = sound([alone])
    assert (alone.answer, alone.media[0].start, alone.meta["split"]) == ({"spans": [[0.2, 0.9]]}, None, "val")
    (root / "nlq.json").write_text("[]")
    with pytest.raises(InputError, match="nothing at videos"):
        list(ego4d_nlq(annotations=path, videos=".", root=root))
