"""Samples: prompts and markers, ids, rows, and the rules that make a sample valid."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.schema import Sample, content_id, from_row, to_row, user_prompt, with_id
from mmrl.core.config import InputError
from mmrl.core.media.item import Media, MediaKind, shown_seconds
from mmrl.core.messages import media_parts, prompt_text
from rewards.tasks.table import OTHER, TASKS
from tests.support.faulty import form_fault

IMAGE = Media("image", path="a.jpg", width=100, height=50)
VIDEO = Media("video", path="a.mp4", width=100, height=50, num_frames=50, fps=25.0, duration=2.0)

VALID = {task: kind.example for task, kind in TASKS.items()}


def sample(task: str, answer: Any, media: tuple[Media, ...] | None = None, text: str = "Who?") -> Sample:
    given = media if media is not None else (VIDEO if task == "temporal" else IMAGE,)
    return Sample("id7", "src", task, user_prompt(text, [item.kind for item in given]), answer, given)


def fault(task: str, answer: Any, **options: Any) -> str:
    fault = form_fault(sample(task, answer, **options))
    assert fault
    return fault[0]


def test_every_example_is_valid() -> None:
    for task, answer in VALID.items():
        assert form_fault(sample(task, answer)) is None, task
    assert form_fault(sample("detection", {"boxes": [], "labels": []})) is None  # none of them is in the picture
    assert form_fault(sample("math", VALID["math"], ())) is None


@pytest.mark.parametrize("task", VALID)
def test_every_key_of_a_task_is_needed(task: str) -> None:
    for key in TASKS[task].keys:
        assert fault(task, {**VALID[task], key.name: None}) == "no_answer"
    if TASKS[task].keys:  # a picture may be made of a text alone
        assert fault(task, {}) == "no_answer"
    assert fault(task, "Paris") == "no_answer"


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("choice", {"choice": "C"}),
        ("choice", {"choice": "b"}),
        ("choice", {"choice": "dog"}),
        ("choice", {"options": ["cat"]}),
        ("choice", {"options": ["cat", " "]}),
        ("choice", {"options": 3}),
        ("yesno", {"yesno": "yes"}),
        ("yesno", {"yesno": 1}),
        ("number", {"number": float("nan")}),
        ("number", {"number": "3"}),
        ("count", {"number": True}),
        ("math", {"math": " "}),
        ("text", {"text": "Paris"}),
        ("text", {"text": []}),
        ("text", {"text": ["Paris", ""]}),
        ("grounding", {"boxes": []}),
        ("grounding", {"boxes": [1, 2, 3, 4]}),
        ("grounding", {"boxes": [[30, 2, 3, 4]]}),
        ("grounding", {"boxes": [[1, 2, 3]]}),
        ("grounding", {"boxes": [[1, 2, 3, float("inf")]]}),
        ("detection", {"labels": ["cat"]}),
        ("detection", {"labels": ["cat", ""]}),
        ("point", {"points": []}),
        ("point", {"points": [[1, 2, 3]]}),
        ("temporal", {"spans": []}),
        ("temporal", {"spans": [[1, 0.5]]}),
        ("temporal", {"spans": [[-1, 0.5]]}),
        ("temporal", {"spans": [[1, 2], [0, 0.5]]}),
        ("caption", {"references": []}),
        ("caption", {"references": ["ok", ""]}),
        ("open", {"questions": [{"question": "Who?", "options": ["a", "b"], "choice": "C"}]}),
        ("preference", {"preferred": 2}),
        ("preference", {"preferred": True}),
        ("preference", {"candidates": ["a"]}),
        ("edit", {"instruction": ""}),
        ("edit", {"score": "7"}),
    ],
)
def test_an_answer_of_another_form_is_reported(task: str, change: dict[str, Any]) -> None:
    assert fault(task, {**VALID[task], **change}) == "bad_answer"


def test_places_must_lie_in_the_picture() -> None:
    for box in ([-2, 0, 10, 10], [0, 0, 102, 10], [0, 0, 10, 52], [200, 200, 300, 300]):
        assert fault("grounding", {"boxes": [box]}) == "box_outside"
    assert fault("point", {"points": [[50, 60]]}) == "point_outside"
    assert fault("grounding", {"boxes": [[1, 2, 3, 4]]}, media=()) == "box_outside"
    large = replace(IMAGE, width=1000, height=1000)
    assert form_fault(sample("grounding", {"boxes": [[200, 200, 300, 300]]}, (IMAGE, large))) is None
    unprobed = Media("image", path="a.jpg")
    assert form_fault(sample("grounding", {"boxes": [[200, 200, 300, 300]]}, (unprobed,))) is None


def test_spans_must_end_with_the_video() -> None:
    assert fault("temporal", {"spans": [[1, 3]]}) == "span_outside"
    assert fault("temporal", {"spans": [[0, 1]]}, media=(IMAGE,)) == "span_outside"
    cut = replace(VIDEO, start=1.0, end=1.8)
    assert shown_seconds(cut) == pytest.approx(0.8)
    assert form_fault(sample("temporal", {"spans": [[0, 0.8]]}, (cut,))) is None
    assert fault("temporal", {"spans": [[1, 1.8]]}, media=(cut,)) == "span_outside"


@pytest.mark.parametrize("cut", [{"start": 2.5}, {"start": -1.0}, {"start": 1.0, "end": 1.0}, {"start": float("nan")}])
def test_a_cut_must_leave_something(cut: dict[str, float]) -> None:
    assert fault("yesno", {"yesno": True}, media=(replace(VIDEO, **cut),)) == "bad_cut"


def test_an_unknown_task_names_the_nearest() -> None:
    fault = form_fault(sample("groundin", {"boxes": []}))
    assert fault
    assert fault[0] == "unknown_task"
    assert "did you mean grounding?" in fault[1]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Who?", "bad_prompt"),
        ([], "bad_prompt"),
        ([{"role": "user"}], "bad_prompt"),
        ([{"role": "user", "content": []}], "bad_prompt"),
        ([{"role": "user", "content": [{"type": "text"}]}], "bad_prompt"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "bad_prompt"),
        ([{"role": "user", "content": "Who?"}], "marker_mismatch"),
        ([{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Who?"}]}], "marker_mismatch"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "<image>?"}]}], "marker_mismatch"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " "}]}], "empty_text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "empty_text"),
    ],
)
def test_a_prompt_is_messages_that_ask_and_show(prompt: Any, reason: str) -> None:
    fault = form_fault(Sample("id7", "src", "yesno", prompt, {"yesno": True}, (IMAGE,)))
    assert fault
    assert fault[0] == reason


def test_a_sample_that_cannot_be_stored_is_reported() -> None:
    assert fault("text", {"text": ["\ud800"]}) == "not_text"
    odd = replace(sample("yesno", {"yesno": True}), meta={"score": float("nan")})
    assert (refusal := form_fault(odd))
    assert refusal[0] == "not_text"
    assert (refusal := form_fault(replace(odd, meta={"when": object()})))
    assert refusal[0] == "not_text"


def test_media_stand_where_the_text_marks_them() -> None:
    prompt = user_prompt("Is <image> in <video>?", ["image", "video"])
    assert media_parts(prompt) == ["image", "video"]
    assert [part.get("text") for part in prompt[0]["content"]] == ["Is ", None, " in ", None, "?"]
    assert media_parts(user_prompt("Who?", ["image", "image"])) == ["image", "image"]
    assert prompt_text(user_prompt("Is <image> red?", ["image"])) == "Is \n red?"
    others: list[list[MediaKind]] = [[], ["image", "image"], ["video"]]
    for media in others:
        with pytest.raises(InputError, match="the text marks"):
            user_prompt("Is <image> red?", media)


def test_an_id_is_made_of_question_answer_and_media() -> None:
    first = sample("yesno", {"yesno": True})
    same = replace(first, meta={"where": "elsewhere"}, id="other")
    assert content_id(first) == content_id(same) == with_id(first).id
    hashed = replace(first, media=(replace(IMAGE, sha256="ab"),))
    moved = replace(first, media=(replace(IMAGE, sha256="ab", path="b.jpg"),))
    assert content_id(hashed) == content_id(moved) != content_id(first)
    assert content_id(replace(first, answer={"yesno": False})) != content_id(first)
    assert content_id(replace(first, media=(replace(IMAGE, start=1.0),))) != content_id(first)


texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(text=texts, answer=st.dictionaries(texts, values, max_size=3), meta=st.dictionaries(texts, values, max_size=3))
def test_a_row_gives_the_sample_back(text: str, answer: dict[str, Any], meta: dict[str, Any]) -> None:
    sample = Sample("1", "s", "text", [{"role": "user", "content": text}], answer, (IMAGE, VIDEO), meta)
    row = to_row(sample)
    assert from_row(row) == sample
    assert json.loads(row["meta"]) == meta


@settings(deadline=None)
@given(
    prompt=values,
    answer=values,
    task=st.sampled_from([*TASKS, "nonsense"]),
    media=st.lists(st.sampled_from([IMAGE, VIDEO, Media("image")]), max_size=2),
)
def test_validation_reports_and_never_raises(prompt: Any, answer: Any, task: str, media: list[Media]) -> None:
    fault = form_fault(Sample("", "s", task, prompt, answer, tuple(media)))
    assert fault is None or fault[0]
    keyed = dict.fromkeys((key.name for key in TASKS.get(task, OTHER).keys), answer)
    fault = form_fault(sample(task, keyed, tuple(media)))
    assert fault is None or fault[0]
