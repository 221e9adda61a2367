"""The layouts that users bring: GRPO rows, R1-V, Video-R1, JSON below a key or by id, CSV, class labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources.conversations import trl, vlm_r1
from data_engine.sources.ms_swift import ms_swift
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import csv_table, json_array, jsonl, parquet, saved_dataset
from mmrl.core.config import InputError
from tests.support.rows import only_sample, reasons, refused, sound, write


def held(root: Path) -> dict[str, Any]:
    return {"bytes": (root / "a.png").read_bytes(), "path": None}


def texts(sample: Sample) -> list[str]:
    return [part["text"] for message in sample.prompt for part in message["content"] if part["type"] == "text"]


def test_r1_v_and_trl_parquet_files_have_their_gold_in_the_solution(root: Path) -> None:
    row = {"image": held(root), "problem": "How many items are there?", "solution": "<answer> 3 </answer>"}
    pq.write_table(pa.Table.from_pylist([row]), root / "clevr.parquet")
    (count,) = sound(vlm_r1(path="clevr.parquet", root=root, task="count"))
    assert (count.answer, len(count.media)) == ({"number": 3.0}, 1)
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What is 1/2 + 1/3?"}]
    chat = [{"role": "system", "content": [{"type": "text", "text": "Think."}]}, {"role": "user", "content": parts}]
    row = {"prompt": chat, "images": [held(root)], "solution": "So it is $\\boxed{\\frac{5}{6}}$."}
    pq.write_table(pa.Table.from_pylist([row]), root / "trl.parquet")
    (sample,) = sound(trl(path="trl.parquet", root=root, task="math"))
    assert sample.answer == {"math": "\\frac{5}{6}"}
    assert [message["role"] for message in sample.prompt] == ["system", "user"]
    assert sample.prompt[1]["content"] == [{"type": "image"}, {"type": "text", "text": "What is 1/2 + 1/3?"}]
    plain = [
        {"prompt": "What is 2 + 2?", "image": "a.png", "solution": 4},
        {"prompt": "What is 2 + 2?", "image": "a.png"},
    ]
    items = list(trl(path=write(root, "t.jsonl", plain), root=root, task="number"))
    assert sound(items[:1])[0].answer == {"number": 4.0}
    assert refused(items) == [("no_conversation", "t.jsonl:2")]
    assert refused(trl(path="t.jsonl", root=root))[0] == ("no_task", "t.jsonl:1")


def test_messages_may_hold_their_pictures_themselves(root: Path) -> None:
    for part in ({"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}):
        chat = [{"role": "user", "content": [part, {"type": "text", "text": "Red?"}]}]
        path = write(root, "t.jsonl", [{"messages": chat, "solution": "yes"}])
        (sample,) = sound(trl(path=path, root=root, task="yesno"))
        assert (sample.answer, len(sample.media)) == ({"yesno": True}, 1)


def test_messages_may_be_written_as_a_text(root: Path) -> None:
    """MM-Eureka and others store their conversations as JSON in a text."""
    talk = json.dumps([{"role": "user", "content": "<image>What is 1 + 1?"}])
    path = write(root, "m.jsonl", [{"conversations": talk, "image": "a.png", "answer": "2"}])
    (sample,) = sound(trl(path=path, root=root, task="math"))
    assert (sample.answer, len(sample.media)) == ({"math": "2"}, 1)


def test_ms_swift_rows_of_grpo_end_with_the_user(root: Path) -> None:
    chat = [{"role": "user", "content": "<image>How many?"}]
    rows = [
        {"messages": chat, "images": ["a.png"], "solution": "<answer>2</answer>"},
        {"messages": chat, "images": ["a.png"]},
    ]
    items = list(ms_swift(path=write(root, "g.jsonl", rows), root=root, task="count"))
    assert sound(items[:1])[0].answer == {"number": 2.0}
    assert refused(items) == [("no_answer", "g.jsonl:2")]


def test_video_r1_says_the_task_and_lists_its_options_apart(root: Path) -> None:
    row = {"problem": "What is it?", "problem_type": "multiple choice", "data_type": "image", "path": "./a.png"}
    options = ["A. a wall", "B. a dog"]
    rows = [{**row, "problem_id": 7, "options": options, "solution": "<answer>B</answer>"}]
    rows += [{**row, "problem_type": "free-form", "options": [], "solution": "<answer>A red wall.</answer>"}]
    choice, free = sound(vlm_r1(path=write(root, "v.json", rows), root=root))
    assert choice.answer == {"choice": "B", "options": ["a wall", "a dog"]}
    assert texts(choice) == ["What is it?\nA. a wall\nB. a dog"]
    assert choice.meta["problem_id"] == 7
    assert (free.task, free.answer) == ("open", {"references": ["A red wall."]})


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ({"info": 1, "data": [{"question": "Red?", "answer": "yes"}]}, "data"),
        ({"data": {"train": [{"question": "Red?", "answer": "yes"}]}}, "data.train"),
        ({"questions": {"7": {"question": "Red?", "answer": "yes"}}}, "questions"),
        ({"7": {"question": "Red?", "answer": "yes"}}, None),
        ([{"question": "Red?", "answer": "yes"}], None),
    ],
)
def test_the_rows_of_a_json_file_may_lie_below_a_key_or_be_named(root: Path, content: Any, at: str | None) -> None:
    (root / "d.json").write_text("\n " + json.dumps(content))
    rows = Rows(task="yesno", at=at)
    assert only_sample(json_array(path="d.json", root=root, rows=rows)).answer == {"yesno": True}


def test_rows_by_id_have_their_id_and_a_wrong_key_names_the_lists(root: Path) -> None:
    (root / "a.png").rename(root / "q7.png")
    (root / "d.json").write_text(
        '{"q7": {"question": "Red?", "answer": "yes"}, "q8": {"question": "?", "answer": NaN}}'
    )
    rows = Rows(task="yesno", columns={"image": "id"}, extension="png")
    items = list(json_array(path="d.json", root=root, rows=rows))
    assert len(sound(items[:1])[0].media) == 1
    assert refused(items) == [("bad_json", "d.json: q8")]
    (root / "e.json").write_text('{"info": {}, "data": [1]}')
    (item,) = json_array(path="e.json", root=root, rows=Rows(task="yesno"))
    assert isinstance(item, Quarantined)
    assert "one object" in item.why
    assert "lists are under 'info', 'data'" in item.why
    for at, message in (("dta", "nothing at dta.*'data'"), ("info", "no rows at info")):
        with pytest.raises(InputError, match=message):
            list(json_array(path="e.json", root=root, rows=Rows(task="yesno", at=at)))
    with pytest.raises(InputError, match=r"rows.at data is ignored by the source jsonl"):
        jsonl(path=write(root, "r.jsonl", []), root=root, rows=Rows(at="data"))


def test_next_qa_is_a_csv_of_ids_and_options(root: Path) -> None:
    (root / "4010069381.mp4").write_bytes(b"probed later")
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
    lines = [head, "4010069381,369,640,480,how do the two man play,0,6,CH,roll the handle,tap,strum,hit,'pat, softly'"]
    (root / "val.csv").write_text("\ufeff" + "\r\n".join(lines).replace("'", '"') + "\r\n4010069381,1\r\n")
    columns = {"options": [f"a{n}" for n in range(5)]}
    rows = Rows(task="choice", answer="index", columns=columns, extension="mp4", list_options=True)
    items = list(csv_table(path="val.csv", root=root, rows=rows))
    (sample,) = sound(items[:1])
    assert sample.answer["choice"] == "A"
    assert sample.answer["options"][4] == "pat, softly"
    assert sample.media[0].kind == "video"
    assert refused(items) == [("bad_row", "val.csv:3")]


def test_a_tsv_holds_numbers_lists_and_empty_cells(root: Path) -> None:
    (root / "a.mp4").write_bytes(b"probed later")
    lines = ["question\timage\tvideo\ttask\tanswer\tboxes\tstart\tend\tspans"]
    lines += ["Where?\ta.png\t\tgrounding\t\t[[1, 2, 30, 40]]\t\t\t", "When?\t\ta.mp4\ttemporal\t\t\t1\t5.5\t[[2, 3]]"]
    lines += ["Count.\ta.png\t\tcount\t3\t\t\t\t", "Name it.\ta.png\t\ttext\tnone\t\t\t\t"]
    (root / "t.tsv").write_text("\n".join(lines) + "\n")
    where, when, count, name = sound(csv_table(path="t.tsv", root=root))
    assert where.answer == {"boxes": [[1, 2, 30, 40]]}
    assert (when.answer, when.media[0].start, when.media[0].end) == ({"spans": [[1.0, 2.0]]}, 1.0, 5.5)
    assert (count.answer, name.answer) == ({"number": 3.0}, {"text": ["none"]})
    with pytest.raises(InputError, match="no column picture for image"):
        csv_table(path="t.tsv", root=root, rows=Rows(columns={"image": "picture"}))


def test_class_labels_are_names_in_saved_datasets_and_parquet(root: Path) -> None:
    label = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "label": label, "all": datasets.List(label)})
    rows = {"image": [str(root / "a.png")] * 2, "label": [1, -1], "all": [[0, 1], []]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(root / "saved")
    data.to_parquet(root / "labels.parquet")
    form = Rows(task="text", question="Which animal?", columns={"answer": "label"})
    for items in (
        saved_dataset(path="saved", root=root, rows=form),
        parquet(path="labels.parquet", root=root, rows=form),
    ):
        dog, nothing = items
        assert isinstance(dog, Sample)
        assert dog.answer == {"text": ["dog"]}
        assert isinstance(nothing, Quarantined)
        assert nothing.reason == "no_answer"
    several = Rows(task="text", question="Which animals?", columns={"answer": "all"})
    first, _ = parquet(path="labels.parquet", root=root, rows=several)
    assert isinstance(first, Sample)
    assert first.answer == {"text": ["cat", "dog"]}


def test_a_column_that_means_something_else_is_ignored(root: Path) -> None:
    """ScienceQA as it is published: its `task` is no task of ours."""
    row = {
        "question": "Which?",
        "choices": ["cat", "dog"],
        "answer": 1,
        "task": "closed choice",
        "hint": "",
        "image": None,
    }
    path, columns = write(root, "s.jsonl", [row]), {"options": "choices"}
    (item,) = jsonl(path=path, root=root, rows=Rows(task="choice", columns=columns))
    assert isinstance(item, Quarantined)
    assert "rows.ignore" in item.why
    assert reasons(jsonl(path=path, root=root, rows=Rows(task="choice", columns=columns, ignore=["task"]))) == [
        "choice"
    ]


def test_qvhighlights_rows_name_their_video_without_a_suffix(root: Path) -> None:
    (root / "NUsG9BgSes0_210.0_360.0.mp4").write_bytes(b"probed later")
    row = {
        "qid": 1,
        "query": "A cook.",
        "vid": "NUsG9BgSes0_210.0_360.0",
        "duration": 150,
        "relevant_windows": [[82, 150]],
    }
    columns = {"question": "query", "video": "vid", "spans": "relevant_windows"}
    rows = Rows(columns=columns, extension="mp4")
    sample = only_sample(jsonl(path=write(root, "h.jsonl", [row]), root=root, rows=rows))
    assert (sample.task, sample.answer) == ("temporal", {"spans": [[82.0, 150.0]]})


def test_fields_of_a_column_are_columns_too(root: Path) -> None:
    """CPPE-5 and other detection sets of the hub hold their objects in one column, with class labels."""
    label = datasets.ClassLabel(names=["mask", "gloves"])
    objects = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))), "category": datasets.List(label)}
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    rows = {"image": [str(root / "a.png")], "objects": [{"bbox": [[10, 5, 20, 30]], "category": [1]}]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "cppe.parquet")
    columns = {"boxes": "objects.bbox", "labels": "objects.category"}
    form = Rows(task="detection", question="Find all.", boxes="xywh", columns=columns)
    sample = only_sample(parquet(path="cppe.parquet", root=root, rows=form))
    assert sample.answer == {"boxes": [[10, 5, 30, 35]], "labels": ["gloves"]}
    vqa = {"question": "Red?", "answers": [{"answer": "yes", "answer_id": 1}, {"answer": "sure", "answer_id": 2}]}
    path = write(root, "v.jsonl", [vqa])
    sample = only_sample(jsonl(path=path, root=root, rows=Rows(task="text", columns={"answer": "answers"})))
    assert sample.answer == {"text": ["yes", "sure"]}
