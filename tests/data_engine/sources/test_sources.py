"""Raw rows become samples, and broken rows become quarantine entries that name the right form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.operator import Quarantined
from data_engine.ops.validate import validate
from data_engine.schema import Sample, with_id
from data_engine.sources.row_format import PLAIN_COLUMNS, Row, Rows, answer_columns, samples_of
from data_engine.sources.tables import json_array, jsonl, parquet, saved_dataset, video_questions
from mmrl.core.config import InputError
from rewards.tasks.table import TASKS
from tests.support.rows import only_sample, read_rows, reasons, write_lines


def test_a_row_becomes_a_sample(photos: Path) -> None:
    sample = only_sample(
        read_rows(photos, [{"question": "Red?", "image": "flower.jpg", "task": "yesno", "answer": "Yes"}])
    )
    assert sample.answer == {"yesno": True}
    assert sample.prompt[0]["content"] == [{"type": "image"}, {"type": "text", "text": "Red?"}]
    assert sample.media[0].path == str(photos / "flower.jpg")
    assert sample.meta == {"where": "rows.jsonl:1"}


def test_markers_place_the_media(photos: Path) -> None:
    row = {"question": "Is <image> like <image>?", "images": ["china.jpg", "flower.jpg"], "answer": "no"}
    (message,) = only_sample(read_rows(photos, [row], task="yesno")).prompt
    assert [part["type"] for part in message["content"]] == ["text", "image", "text", "image", "text"]


@pytest.mark.parametrize(
    ("task", "row", "answer"),
    [
        ("choice", {"answer": 1, "options": ["cat", "dog"]}, {"choice": "B", "options": ["cat", "dog"]}),
        ("choice", {"answer": "cat", "options": ["cat", "dog"]}, {"choice": "A", "options": ["cat", "dog"]}),
        ("choice", {"answer": "B", "options": ["cat", "dog"]}, {"choice": "B", "options": ["cat", "dog"]}),
        ("yesno", {"answer": False}, {"yesno": False}),
        ("number", {"answer": "3.5", "unit": "cm"}, {"number": 3.5, "unit": "cm"}),
        ("text", {"answer": "Paris"}, {"text": ["Paris"]}),
        ("caption", {"answer": ["a", "b"]}, {"references": ["a", "b"]}),
        ("temporal", {"spans": [1, 2]}, {"spans": [[1.0, 2.0]]}),
        (
            "point",
            {"answer": [[3, 4]], "boxes": [1, 2, 5, 6]},
            {"points": [[3.0, 4.0]], "boxes": [[1.0, 2.0, 5.0, 6.0]]},
        ),
        ("math", {"answer": {"math": "1/2"}}, {"math": "1/2"}),
        ("math", {"answer": 4}, {"math": "4"}),
        ("chart", {"answer": 2014}, {"text": ["2014"]}),
        ("open", {"answer": [3, "three"]}, {"references": ["3", "three"]}),
        ("choice", {"answer": 20, "options": [10, 20]}, {"choice": "B", "options": ["10", "20"]}),
        ("choice", {"answer": 1, "options": [10, 20]}, {"choice": "B", "options": ["10", "20"]}),
        ("choice", {"answer": 1, "options": [0, 1]}, {"choice": "B", "options": ["0", "1"]}),
    ],
)
def test_short_answers_are_brought_into_the_schema(tmp_path: Path, task: str, row: dict, answer: dict) -> None:
    assert only_sample(read_rows(tmp_path, [{"question": "?", "task": task, **row}])).answer == answer


def test_columns_are_renamed_and_options_listed(tmp_path: Path) -> None:
    row = {"query": "Which?", "choices": ["cat", "dog"], "label": 0}
    columns = {"question": "query", "options": "choices", "answer": "label"}
    sample = only_sample(read_rows(tmp_path, [row], task="choice", columns=columns, list_options=True))
    assert sample.prompt[0]["content"][0]["text"] == "Which?\nA. cat\nB. dog"


@pytest.mark.parametrize(("ours", "theirs"), [("image", "images"), ("images", "image")])
def test_a_column_is_read_under_the_name_that_it_is_given_only(photos: Path, ours: str, theirs: str) -> None:
    row = {theirs: ["china.jpg"], "question": "Red?", "answer": "no"}
    assert len(only_sample(read_rows(photos, [row], task="yesno", columns={ours: theirs})).media) == 1


@pytest.mark.parametrize(
    ("form", "box"),
    [
        ({}, [64, 42.7, 320, 213.5]),
        ({"space": "unit"}, [0.1, 0.1, 0.5, 0.5]),
        ({"space": "per_mille"}, [100, 100, 500, 500]),
        ({"space": "unit", "boxes": "xywh"}, [0.1, 0.1, 0.4, 0.4]),
        ({"space": "resized"}, [32, 21.35, 160, 106.75]),
    ],
)
def test_boxes_of_every_declared_space_become_pixels(photos: Path, form: dict, box: list[float]) -> None:
    row = {"question": "?", "image": "china.jpg", "boxes": [box], "seen_size": [320, 213.5]}
    sample = only_sample(read_rows(photos, [row], task="grounding", **form))
    assert sample.answer["boxes"][0] == pytest.approx([64, 42.7, 320, 213.5], abs=1e-3)


@pytest.mark.parametrize("seen", [448, {"w": 1}, "448", [448], [[1]], [448, 0], [448, True], [448, 10**400], [], None])
def test_an_invalid_size_is_refused(photos: Path, seen: Any) -> None:
    row = {"question": "?", "image": "china.jpg", "boxes": [1, 2, 3, 4], "seen_size": seen}
    (item,) = read_rows(photos, [row], task="grounding", space="resized")
    assert isinstance(item, Quarantined)
    assert item.reason == "no_seen_size"
    assert "[width, height]" in item.why
    assert reasons(read_rows(photos, [row], task="grounding", space="unit", boxes="xywh")) == ["grounding"]


def test_a_number_that_may_be_two_options_is_neither(tmp_path: Path) -> None:
    items = read_rows(tmp_path, [{"question": "?", "answer": 2, "options": [1, 2, 3]}], task="choice")
    assert reasons(items) == ["bad_answer"]


def test_a_bad_row_is_quarantined_with_its_place_and_the_next_is_read(photos: Path) -> None:
    good = {"question": "?", "task": "yesno", "answer": "no"}
    (photos.parent / "outside.jpg").write_bytes((photos / "china.jpg").read_bytes())
    (photos / "link.jpg").symlink_to(photos.parent / "outside.jpg")
    (photos / "torn.jpg").write_text("not a picture")
    bad = {
        "bad_json": '{"question": ',
        "bad_row": [1, 2],
        "no_task": {"question": "?", "answer": "no"},
        "unknown_task": {**good, "task": "yesn"},
        "no_question": {**good, "question": " "},
        "no_answer": {**good, "answer": None},
        "bad_answer": {**good, "answer": "perhaps"},
        "missing": {**good, "image": "nowhere.jpg"},
        "remote": {**good, "image": "https://example.org/a.jpg"},
        "outside_root": {**good, "image": "link.jpg"},
        "marker_mismatch": {**good, "question": "<image>?", "images": ["china.jpg", "flower.jpg"]},
        "unreadable": {"question": "?", "image": "torn.jpg", "boxes": [0, 0, 1, 1], "task": "grounding"},
    }
    form = {"space": "unit"}
    items: list[Any] = read_rows(
        photos, [*bad.values(), '{"question": "?", "answer": NaN}', "[" * 900 + "]" * 900, "", good], **form
    )
    assert reasons(items) == [*bad, "bad_json", "bad_json", "yesno"]
    assert all(f"rows.jsonl:{number}: " in item.why for number, item in enumerate(items[:14], start=1))
    assert "did you mean yesno" in items[3].why
    assert "nowhere.jpg" in items[7].why
    assert "marks ['image'] but the sample has media ['image', 'image']" in items[10].why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("a.png"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "path", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    row=st.dictionaries(st.sampled_from([*PLAIN_COLUMNS, *answer_columns()]), JSON), task=st.sampled_from(sorted(TASKS))
)
@settings(max_examples=300, deadline=None)
def test_no_row_stops_the_run(row: dict[str, Any], task: str) -> None:
    row = {"question": "?", **row}
    for space in ("pixel", "unit"):
        form = Rows.model_validate({"task": task, "space": space, "list_options": True})
        (item,) = samples_of([Row("rows.jsonl:1", row)], form, Path(__file__).parent, "jsonl")
        if isinstance(item, Sample) and isinstance(checked := validate(item), Sample):
            assert with_id(checked).id


def test_a_text_alone_is_a_row_of_a_task_that_needs_no_answer() -> None:
    def read(**row: Any) -> Sample | Quarantined:
        form = Rows.model_validate({"task": "text_to_image"})
        (item,) = samples_of(
            [Row("rows.jsonl:1", {"question": "a red 7", **row})], form, Path(__file__).parent, "jsonl"
        )
        return item

    content = {"content": [{"what": "7", "colour": "red", "count": 1}]}
    alone, told, short = read(), read(answer=content), read(answer="a 7")
    assert isinstance(alone, Sample)
    assert alone.answer == {}
    assert isinstance(told, Sample)
    assert told.answer == content
    assert isinstance(short, Quarantined)
    assert "name the keys of what is given, not 'a 7'" in short.why


def test_a_missing_table_is_found_when_the_source_is_called(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no JSONL file at .*nowhere.jsonl"):
        jsonl(path="nowhere.jsonl", root=tmp_path)
    for source in (jsonl, json_array):
        with pytest.raises(InputError, match="is a folder; name the JSON"):
            source(path=".", root=tmp_path)


def test_parquet_rows_hold_media_as_bytes_or_paths(photos: Path) -> None:
    picture = (photos / "flower.jpg").read_bytes()
    images = [{"bytes": picture, "path": None}, {"bytes": None, "path": "china.jpg"}]
    table = pa.table({"question": ["a?", "b?"], "answer": ["yes", "no"], "image": images})
    pq.write_table(table, photos / "rows.parquet")
    first, second = parquet(path="rows.parquet", root=photos, rows=Rows(task="yesno"))
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert first.media[0].bytes == picture
    assert second.media[0].path == str(photos / "china.jpg")
    assert second.meta["where"] == "rows.parquet:2"


def test_a_saved_dataset_is_read_without_decoding_its_images(photos: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"question": ["a?"], "answer": ["yes"], "images": [[str(photos / "flower.jpg")]]}
    features = {"question": datasets.Value("string"), "answer": datasets.Value("string")}
    features["images"] = datasets.List(datasets.Image())
    saved = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=datasets.Features(features)))
    saved.save_to_disk(photos / "saved")
    sample = only_sample(saved_dataset(path="saved", split="train", root=photos, rows=Rows(task="yesno")))
    assert sample.media[0].bytes == (photos / "flower.jpg").read_bytes()
    with pytest.raises(InputError, match=r"did you mean train\?"):
        saved_dataset(path="saved", split="trian", root=photos)


def test_video_questions_carry_spans_and_cuts(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"probed later")
    rows = [
        {"video": "a.mp4", "question": "When is the 3 visible?", "spans": [[0.5, 1.5]]},
        {"video": "a.mp4", "question": "Which digit?", "task": "number", "answer": 3, "start": 1, "end": 2},
        {"question": "Which?", "task": "number", "answer": 3},
    ]
    write_lines(tmp_path / "questions.jsonl", rows)
    items = list(video_questions(questions="questions.jsonl", videos="clips", root=tmp_path))
    assert reasons(items) == ["temporal", "number", "no_video"]
    assert isinstance(items[1], Sample)
    assert (items[1].media[0].start, items[1].media[0].end) == (1.0, 2.0)


def test_a_video_of_a_question_may_be_in_any_media_column(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"probed later")
    asked = {"question": "Which digit?", "task": "number", "answer": 3}
    media_rows = [{"clip": "a.mp4"}, {"media": [{"kind": "video", "path": "a.mp4"}]}, {"video": "a.mp4"}, {"media": []}]
    write_lines(tmp_path / "q.jsonl", [{**asked, **media} for media in [*media_rows, {"clip": None}]])
    rows = Rows(columns={"video": "clip"})
    items = list(video_questions(questions="q.jsonl", videos=".", root=tmp_path, rows=rows))
    assert reasons(items) == ["number", "number", "no_video", "no_video", "no_video"]
    assert [len(item.media) for item in items if isinstance(item, Sample)] == [1, 1]


def test_spans_are_seconds_of_the_part_that_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"probed later")
    row = {"question": "When?", "video": "a.mp4", "spans": [[3, 4.5]], "start": 2, "end": 5}
    assert only_sample(read_rows(tmp_path, [row])).answer == {"spans": [[1.0, 2.5]]}
    entry = {"kind": "video", "path": "a.mp4", "start": None, "end": 6}
    sample = only_sample(read_rows(tmp_path, [{**row, "video": None, "media": [entry]}]))
    assert (sample.answer, sample.media[0].start, sample.media[0].end) == ({"spans": [[1.0, 2.5]]}, 2, 6)
