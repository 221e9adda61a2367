"""Golds of rows are read in one way, or refused: letters that are texts, places that are numbers, points, boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_engine.operator import Quarantined
from data_engine.ops.options import shuffle_options
from data_engine.ops.validate import validate
from data_engine.schema import Sample, with_id
from tests.support.rows import only_sample, read_rows, reasons

CHOICE = {"question": "Which?", "task": "choice"}


@pytest.mark.parametrize(
    ("answer", "options", "declared"),
    [
        ("A", ["D", "C", "A", "B"], {"letter": "A", "text": "C"}),
        ("b", ["b", "a"], {"letter": "B", "text": "A"}),
        (2, ["1", "2", "3", "4"], {"index": "C", "text": "B", "index_from_1": "B"}),
        (2, [1, 2, 3, 4], {"index": "C", "text": "B"}),
        ("1", ["3", "0", "1", "2"], {"index": "B", "text": "C", "index_from_1": "A"}),
    ],
)
def test_what_may_be_a_letter_a_place_or_a_text_is_refused_or_declared(
    answer: Any, options: list[Any], declared: dict[str, str]
) -> None:
    row = {**CHOICE, "answer": answer, "options": options}
    (item,) = _read([row])
    assert isinstance(item, Quarantined)
    assert item.reason == "bad_answer"
    assert "rows.answer" in item.why
    for form, letter in declared.items():
        (sample,) = _read([row], answer=form)
        assert isinstance(sample, Sample)
        assert sample.answer["choice"] == letter


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read(rows: list[Any], **form: Any) -> list[Sample | Quarantined]:
    return read_rows(Path(), rows, **form)


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "b", "B) dog", "B. dog", "dog", 1, "option b", {"choice": "B"}])
def test_an_option_is_named_in_every_usual_way(answer: Any) -> None:
    for options in (["cat", "dog"], ["A. cat", "B. dog"], ["(A) cat", "(B) dog"]):
        (sample,) = _read([{**CHOICE, "answer": answer, "options": options}], list_options=True)
        assert isinstance(sample, Sample)
        assert sample.answer == {"choice": "B", "options": ["cat", "dog"]}
        assert sample.prompt[0]["content"][0]["text"] == "Which?\nA. cat\nB. dog"


@pytest.mark.parametrize(
    "options",
    [
        "['cat', 'dog']",
        '["cat", "dog"]',
        {"text": ["cat", "dog"], "label": ["A", "B"]},
        [{"choice": "cat"}, {"text": "dog"}],
        {"A": "cat", "B": "dog"},
        ["(a) cat", "(b) dog"],
        ["a. cat", "b. dog"],
    ],
)
def test_options_may_be_written_as_a_text_or_as_objects(options: Any) -> None:
    (sample,) = _read([{**CHOICE, "answer": "B", "options": options}])
    assert isinstance(sample, Sample)
    assert sample.answer["options"] == ["cat", "dog"]


def test_options_in_several_columns_and_a_place_as_text() -> None:
    row = {**CHOICE, "answer": "1", "a0": "sit", "a1": "run"}
    assert reasons(_read([row], columns={"options": ["a0", "a1"]})) == ["bad_answer"]
    (sample,) = _read([row], columns={"options": ["a0", "a1"]}, answer="index")
    assert isinstance(sample, Sample)
    assert sample.answer == {"choice": "B", "options": ["sit", "run"]}
    hole = {**row, "a0": None, "a2": "fly"}
    assert reasons(_read([hole], columns={"options": ["a0", "a1", "a2"]}, answer="index")) == ["bad_answer"]


def test_more_options_than_letters_are_refused() -> None:
    items = _read([{**CHOICE, "answer": 26, "options": [f"thing {n}" for n in range(count)]} for count in (27, 26)])
    assert reasons(items) == ["bad_answer", "bad_answer"]
    assert isinstance(items[0], Quarantined)
    assert "at most 26" in items[0].why


def test_options_that_bring_letters_are_not_put_in_another_order() -> None:
    listed = "Which?\nA. A. cat\nB. B. bus"
    sample = Sample(
        "", "s", "choice", [{"role": "user", "content": listed}], {"choice": "B", "options": ["A. cat", "B. bus"]}
    )
    shuffled = [shuffle_options(with_id(sample), seed=seed) for seed in range(8)]
    assert {outcome.answer["options"][0] for outcome in shuffled if isinstance(outcome, Sample)} == {"A. cat"}


@pytest.mark.parametrize("answer", [True, "1_000", "nan?", [3], "nan", "inf"])
def test_what_only_python_reads_as_a_number_is_none(answer: Any) -> None:
    assert reasons(_read([{"question": "?", "task": "number", "answer": answer}])) == ["bad_answer"]


@pytest.mark.parametrize(
    ("row", "form", "points", "boxes"),
    [
        ({"answer": {"x": 25.0, "y": 50.0}}, {"space": "percent"}, [[25, 25]], None),
        ({"points": [{"x": 10, "y": 20}, {"x": 30, "y": 40}]}, {}, [[10, 20], [30, 40]], None),
        ({"bbox": [10, 20, 30, 40]}, {"columns": {"boxes": "bbox"}}, [[20, 30]], [[10, 20, 30, 40]]),
        ({"answer": [10, 20, 20, 20]}, {"boxes": "xywh"}, [[20, 30]], [[10, 20, 30, 40]]),
        ({"answer": [0.1, 0.4, 0.3, 0.8]}, {"space": "unit"}, [[20, 30]], [[10, 20, 30, 40]]),
    ],
)
def test_points_of_screens_are_objects_percents_or_boxes(
    root: Path, row: dict[str, Any], form: dict[str, Any], points: Any, boxes: Any
) -> None:
    asked = {"question": "Where is OK?", "image": "a.png", "task": "point", **row}
    sample = only_sample(read_rows(root, [asked], **form))
    assert sample.answer["points"] == points
    assert sample.answer.get("boxes") == boxes


def test_points_from_0_to_1_are_no_pixels(root: Path) -> None:
    asked = {"question": "Where is OK?", "image": "a.png", "task": "point", "answer": [0.25, 0.5]}
    told = validate(only_sample(read_rows(root, [asked])))
    assert isinstance(told, Quarantined)
    assert (told.reason, "declare space: unit" in told.why) == ("box_space", True)
    assert isinstance(validate(only_sample(read_rows(root, [asked], space="unit"))), Sample)
