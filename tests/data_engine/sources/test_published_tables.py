"""Tables as other projects publish them: parquet, Arrow files and datasets, RefCOCO of the hub, COCO captions."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.operator import Quarantined
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample
from data_engine.sources.annotated.coco import coco_captions
from data_engine.sources.phrases import refcoco_table
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import hub_dataset, parquet, saved_dataset
from mmrl.core.config import InputError, validate
from tests.support.faulty import form_fault

datasets = pytest.importorskip("datasets")
YESNO = Rows(task="yesno")


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (100, 50), "red").save(content, "PNG")
    return content.getvalue()


PICTURE = {"bytes": _picture(), "path": None}


def table(root: Path, name: str, rows: list[dict[str, Any]]) -> str:
    """The name of a new parquet file."""
    pq.write_table(pa.Table.from_pylist(rows), root / name)
    return name


def sound(items: Any) -> list[Sample]:
    samples = [item for item in items if isinstance(item, Sample)]
    assert all(form_fault(sample) is None for sample in samples)
    return samples


def refused(items: Any) -> list[tuple[str, str]]:
    return [(item.reason, item.where) for item in items if isinstance(item, Quarantined)]


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """A dataset of the `datasets` library with pictures and an answer that is none."""
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "image": datasets.Image()}
    )
    rows = {"question": ["Red?", "Blue?", "Red?"], "answer": ["yes", "no", "perhaps"], "image": [PICTURE] * 3}
    return datasets.Dataset.from_dict(rows, features=features)


def test_columns_are_checked_before_any_work(tmp_path: Path) -> None:
    table(tmp_path, "a.parquet", [{"query": "Red?", "answer": "yes"}])
    with pytest.raises(InputError, match=r"a\.parquet has no column question or prompt; name it in rows\.columns"):
        parquet(path="a.parquet", root=tmp_path, rows=YESNO)
    with pytest.raises(InputError, match=r"no column quary for question; did you mean query\?"):
        parquet(path="a.parquet", root=tmp_path, rows=Rows(task="yesno", columns={"question": "quary"}))
    assert len(sound(parquet(path="a.parquet", root=tmp_path, rows=Rows(task="yesno", columns={"question": "query"}))))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"b\.parquet is not a parquet file"):
        parquet(path="b.parquet", root=tmp_path, rows=YESNO)


def test_columns_of_another_type_are_rows_that_are_refused(tmp_path: Path) -> None:
    table(tmp_path, "a.parquet", [{"question": 7, "answer": "yes"}])
    table(tmp_path, "b.parquet", [{"question": "Red?", "answer": [1.5], "image": 3}])
    assert refused(parquet(path="a.parquet", root=tmp_path, rows=YESNO)) == [("no_question", "a.parquet:1")]
    assert refused(parquet(path="b.parquet", root=tmp_path, rows=YESNO)) == [("bad_media", "b.parquet:1")]


def test_a_table_that_is_damaged_inside_is_read_up_to_there(tmp_path: Path) -> None:
    rows = [{"question": f"Is it {number}?" * 20, "answer": "yes"} for number in range(5000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=500, use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(byte ^ 0x5A for byte in content[middle : middle + 2000])
    (tmp_path / "a.parquet").write_bytes(content)
    items = list(parquet(path="a.parquet", root=tmp_path, rows=YESNO))
    assert 1000 < len(sound(items)) < 4000
    assert refused(items) == [("unreadable", f"a.parquet:{len(items)}")]


def test_a_value_that_cannot_be_held_costs_its_row(tmp_path: Path) -> None:
    texts = ["yes", "\xff", "no"]
    ends = pa.py_buffer(np.array([0, 3, 4, 6], "int32").tobytes())
    answers = pa.Array.from_buffers(pa.string(), 3, [None, ends, pa.py_buffer("".join(texts).encode("latin-1"))])
    times = pa.array([0, 0, 2**62], pa.timestamp("us"))
    folder = tmp_path / "spark" / "x.parquet"
    folder.mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    pq.write_table(pa.table({"question": ["Red?"] * 3, "answer": answers, "at": times}), folder / "part-0.parquet")
    items = list(parquet(path="spark", root=tmp_path, rows=YESNO))
    assert [sample.answer["yesno"] for sample in sound(items)] == [True]
    place = "spark/x.parquet/part-0.parquet"
    assert refused(items) == [("unreadable", f"{place}:2"), ("unreadable", f"{place}:3")]
    whys = [item.why for item in items if isinstance(item, Quarantined)]
    assert ["the value of answer cannot be read" in whys[0], "the value of at cannot be read" in whys[1]] == [
        True,
        True,
    ]


def test_datasets_on_disk_arrow_files_and_folders_are_read_as_they_are_stored(saved: Any, tmp_path: Path) -> None:
    saved.save_to_disk(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    saved.to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    (arrow,) = (file.relative_to(tmp_path) for file in (tmp_path / "saved").glob("*.arrow"))
    repo = str(tmp_path / "hub")
    for name, read in {
        "saved": saved_dataset(path="saved", root=tmp_path, rows=YESNO),
        str(arrow): saved_dataset(path=str(arrow), root=tmp_path, rows=YESNO),
        "hub[train]": hub_dataset(repo="hub", split="train", root=tmp_path, rows=YESNO),
    }.items():
        items = list(read)
        assert [sample.media[0].bytes for sample in sound(items)] == [PICTURE["bytes"]] * 2
        assert [sample.answer["yesno"] for sample in sound(items)] == [True, False]
        assert refused(items) == [("bad_answer", f"{name}:3")]
    with pytest.raises(InputError, match=r"split test of .* cannot be loaded: .*\['train'\]"):
        list(hub_dataset(repo=repo, split="test", root=tmp_path, rows=YESNO))
    with pytest.raises(InputError, match="no column quest for question"):
        saved_dataset(path="saved", root=tmp_path, rows=Rows(columns={"question": "quest"}))
    (tmp_path / "cut.arrow").write_bytes((tmp_path / arrow).read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut\.arrow is not an Arrow file"):
        saved_dataset(path="cut.arrow", root=tmp_path, rows=YESNO)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="was not written by save_to_disk"):
        saved_dataset(path="empty", root=tmp_path, rows=YESNO)
    for name in ("saved", str(arrow)):
        with pytest.raises(InputError, match="asked for split test and has no splits; leave split out"):
            saved_dataset(path=name, split="test", root=tmp_path, rows=YESNO)
    for content in ("{", "{}", "[]"):
        (tmp_path / "saved" / "state.json").write_text(content)
        with pytest.raises(InputError, match=r"the dataset in .* is damaged"):
            saved_dataset(path="saved", root=tmp_path, rows=YESNO)


def test_a_dataset_with_a_split_is_read_as_that_split(saved: Any, tmp_path: Path) -> None:
    saved.to_parquet(tmp_path / "a.parquet")
    datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), split="train").save_to_disk(tmp_path / "saved")
    assert len(sound(saved_dataset(path="saved", split="train", root=tmp_path, rows=YESNO))) == 2
    with pytest.raises(InputError, match="asked for split test and is split train"):
        saved_dataset(path="saved", split="test", root=tmp_path, rows=YESNO)


def test_a_hub_dataset_is_planned_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("the plan asks the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    args = {"repo": "lmms-lab/RefCOCO", "split": "val", "rows": {"task": "grounding"}}
    source = {"fn": "hub", "args": args}
    planned = plan(validate(Recipe, {"sources": [source], "root": tmp_path}, where="recipe"))
    assert planned.sources[0].args["repo"] == "lmms-lab/RefCOCO"
    with pytest.raises(InputError, match=r"source hub: .*splits"):
        plan(validate(Recipe, {"sources": [{"fn": "hub", "args": {**args, "splits": "val"}}]}, where="recipe"))


def test_refcoco_of_the_hub_in_its_two_forms(tmp_path: Path) -> None:
    asked = {"question": "Give a caption.", "bbox": [10.0, 5.0, 20.0, 30.0]}
    answers = [
        {**asked, "question_id": "7", "image": PICTURE, "answer": ["left dog", "the dog"]},
        {**asked, "question_id": "8", "image": PICTURE, "answer": [" "]},
        {**asked, "question_id": "9", "image": PICTURE, "answer": []},
    ]
    items = list(refcoco_table(path=table(tmp_path, "lmms.parquet", answers), root=tmp_path))
    first, second = sound(items)
    assert first.prompt[0]["content"][1]["text"] == "Locate this in the picture: left dog."
    assert first.answer == second.answer == {"boxes": [[10, 5, 30, 35]]}
    declared = {"box_space": "pixel", "box_format": "xywh"}
    assert first.meta == {"question_id": "7", "where": "lmms.parquet:1#1", **declared}
    assert refused(items) == [("no_question", "lmms.parquet:2#1"), ("no_question", "lmms.parquet:3")]

    (tmp_path / "train2014").mkdir()
    (tmp_path / "train2014" / "a.png").write_bytes(_picture())
    sentences = [{"raw": "Left dog", "sent": "left dog", "sent_id": 0}, {"raw": "a dog", "sent": "a dog", "sent_id": 1}]
    row = {"sentences": sentences, "ref_id": 4, "split": "test"}
    paths = [
        {**row, "image_path": "train2014/a.png", "bbox": [10.0, 5.0, 30.0, 35.0]},
        {**row, "image_path": "../a.png", "bbox": [10.0, 5.0, 30.0, 35.0]},
        {**row, "image_path": "train2014/a.png", "bbox": [10.0, 5.0]},
    ]
    table(tmp_path, "paths.parquet", paths)
    items = list(refcoco_table(path="paths.parquet", root=tmp_path, images=".", boxes="xyxy"))
    assert [sample.answer for sample in sound(items)] == [{"boxes": [[10, 5, 30, 35]]}] * 2
    assert sound(items)[0].meta["split"] == "test"
    assert [reason for reason, _ in refused(items)] == ["outside_root"] * 2 + ["bad_answer"] * 2
    late = {"at": pa.array([2**62], pa.timestamp("us")), "bbox": [[10.0, 5.0, 30.0, 35.0]]}
    pq.write_table(pa.table({**late, "image": ["train2014/a.png"], "answer": [["dog"]]}), tmp_path / "late.parquet")
    assert refused(list(refcoco_table(path="late.parquet", root=tmp_path))) == [("unreadable", "late.parquet:1")]
    table(tmp_path, "other.parquet", [{"image": PICTURE, "answer": "dog"}])
    with pytest.raises(InputError, match="needs the columns bbox, one of sentences, answer"):
        refcoco_table(path="other.parquet", root=tmp_path)


def test_coco_captions_are_references(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_picture())
    images = [{"id": number, "file_name": "a.png", "width": 100, "height": 50} for number in (1, 2, 3)]
    captions = [
        {"id": 1, "image_id": 1, "caption": "A red wall.\n"},
        {"id": 2, "image_id": 1, "caption": "A wall that is red."},
        {"id": 3, "image_id": 2, "caption": 7},
        {"id": 4, "image_id": 9, "caption": "Lost."},
    ]
    data = {"images": [*images, {"id": 4, "file_name": "b.png"}], "annotations": captions}
    (tmp_path / "captions.json").write_text(json.dumps(data))
    items = list(coco_captions(annotations="captions.json", images=".", root=tmp_path))
    (only,) = sound(items)
    assert (only.task, only.answer) == ("caption", {"references": ["A red wall.", "A wall that is red."]})
    assert refused(items) == [
        ("no_answer", "captions.json: image 2"),
        ("no_answer", "captions.json: image 3"),
        ("missing", "captions.json: image 4"),
        ("unknown_image", "captions.json: image 9"),
    ]
    (tmp_path / "captions.json").write_text('{"images": []}')
    with pytest.raises(InputError, match="needs a list of objects under annotations"):
        list(coco_captions(annotations="captions.json", images=".", root=tmp_path))
