"""Tables in the formats of verl, Charades-STA, ActivityNet, RefCOCO and Visual Genome become samples."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.sources.moments import activitynet, charades_sta
from data_engine.sources.phrases import refcoco, visual_genome
from data_engine.sources.verl import verl
from mmrl.core.config import InputError
from tests.support.rows import refused, sound, write


def test_easy_r1_and_verl_parquet(root: Path) -> None:
    picture = {"bytes": (root / "a.png").read_bytes(), "path": None}
    easy = {"images": [picture], "problem": "<image>What is 1/2 + 1/2?", "answer": "1"}
    chat = [{"role": "system", "content": "Think."}, {"role": "user", "content": "<image>How many?"}]
    judge = {"style": "rule", "ground_truth": "3"}
    whole = {"data_source": "geo", "prompt": chat, "images": [picture], "reward_model": judge}
    whole |= {"ability": "math", "extra_info": {"split": "train", "index": 4}}
    for name, row in (("easy", easy), ("verl", whole)):
        pq.write_table(pa.Table.from_pylist([row]), root / f"{name}.parquet")
    (sample,) = sound(verl(path="easy.parquet", root=root))
    assert (sample.answer, sample.media[0].bytes, sample.meta) == (
        {"math": "1"},
        picture["bytes"],
        {"where": "easy.parquet:1"},
    )
    (two,) = sound(verl(path="verl.parquet", root=root, task="count"))
    assert two.answer == {"number": 3}
    assert [message["role"] for message in two.prompt] == ["system", "user"]
    assert two.meta == {"data_source": "geo", "split": "train", "index": 4, "where": "verl.parquet:1"}


def test_verl_names_its_files_in_its_own_way(root: Path) -> None:
    (root / "a.mp4").touch()
    judge = {"reward_model": {"ground_truth": 4}}
    seen = {"prompt": [{"role": "user", "content": "<image>2 + 2?"}], "images": [{"image": "a.png"}], **judge}
    film = [{"type": "video", "video": f"file://{root}/a.mp4", "fps": 2.0}]
    shot = {"prompt": [{"role": "user", "content": "<video>2 + 2?"}], "videos": film, **judge}
    away = {**shot, "videos": [{"video": "file:///etc/hostname"}]}
    for name, row in (("i", seen), ("v", shot), ("o", away)):
        pq.write_table(pa.Table.from_pylist([row]), root / f"{name}.parquet")
    for name, file in (("i", "a.png"), ("v", "a.mp4")):
        (sample,) = sound(verl(path=f"{name}.parquet", root=root))
        assert (sample.answer, sample.media[0].path) == ({"math": "4"}, str(root / file))
    assert refused(verl(path="o.parquet", root=root)) == [("outside_root", "o.parquet:1")]


def test_verl_checks_columns_first_and_rows_one_by_one(root: Path) -> None:
    rows = [{"problem": "1?", "answer": "[1, 2, 3, 4]", "images": ["a.png"]}, {"problem": "2?", "answer": ""}]
    rows += [{"problem": "", "answer": "1"}, {"problem": "Where?", "answer": "here"}]
    pq.write_table(pa.Table.from_pylist(rows), root / "e.parquet")
    items = list(verl(path="e.parquet", root=root, task="grounding"))
    assert sound(items[:1])[0].answer == {"boxes": [[1, 2, 3, 4]]}
    expected = [("no_answer", "e.parquet:2"), ("no_question", "e.parquet:3"), ("bad_answer", "e.parquet:4")]
    assert refused(items) == expected
    pq.write_table(pa.Table.from_pylist([{"question": "?"}]), root / "f.parquet")
    with pytest.raises(InputError, match="it has question"):
        verl(path="f.parquet", root=root)


def test_charades_lines_and_activitynet_entries(root: Path) -> None:
    (root / "AO8RW.mp4").touch()
    (root / "c.txt").write_text("AO8RW 0.0 6.9##a person puts a book on a shelf.\n\nAO8RW 24##none\n../X 1 2##away.\n")
    items = list(charades_sta(annotations="c.txt", videos=".", root=root))
    (book,) = sound(items[:1])
    assert book.answer == {"spans": [[0.0, 6.9]]}
    assert "a person puts a book on a shelf. Give" in book.prompt[0]["content"][1]["text"]
    assert refused(items) == [("bad_row", "c.txt:3"), ("outside_root", "c.txt:4")]
    entry = {"duration": 9.0, "timestamps": [[0.5, 3], [2, 9.0], [1]], "sentences": ["A man runs. ", "He stops", "x"]}
    (root / "a.json").write_text(json.dumps({"AO8RW": entry, "v_b": {"timestamps": [[1, 2]], "sentences": []}}))
    items = list(activitynet(annotations="a.json", videos=".", root=root))
    assert [sample.answer["spans"] for sample in sound(items[:2])] == [[[0.5, 3]], [[2, 9.0]]]
    assert refused(items) == [("bad_answer", "a.json: AO8RW#3"), ("bad_row", "a.json: v_b")]


class Attack:
    """Pickles as a call of os.mkdir."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_refcoco_sentences_find_their_boxes(root: Path) -> None:
    instances = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [{"id": 3, "bbox": [1, 2, 10, 20]}]}
    (root / "instances.json").write_text(json.dumps(instances))
    sentences = [{"raw": "Left dog.", "sent": "left dog", "sent_id": 0}, {"raw": "the dog", "sent_id": 1}, "dog"]
    ref = {"ref_id": 1, "image_id": 7, "ann_id": 3, "split": "train", "sentences": sentences}
    loop: dict[str, Any] = {"image_id": 7}
    loop["sentences"] = loop
    refs = [ref, {**ref, "ann_id": 4}, loop, {**ref, "image_id": 10**5000}]
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    items = list(refcoco(refs="refs(unc).p", instances="instances.json", images=".", root=root))
    samples = sound(items[:2])
    assert [sample.prompt[0]["content"][1]["text"].split(": ")[1] for sample in samples] == ["left dog.", "the dog."]
    assert samples[0].answer == {"boxes": [[1, 2, 11, 22]]}
    declared = {"box_space": "pixel", "box_format": "xywh"}
    assert samples[0].meta == {"ref_id": 1, "split": "train", "where": "refs(unc).p:1#1", **declared}
    expected = [("no_question", "refs(unc).p:1#3"), ("unknown_image", "refs(unc).p:2"), ("bad_row", "refs(unc).p:3")]
    expected.append(("bad_row", "refs(unc).p:4"))
    assert refused(items) == expected


def test_a_refs_pickle_runs_no_code(root: Path) -> None:
    (root / "instances.json").write_text('{"images": [], "annotations": []}')
    (root / "bad.p").write_bytes(pickle.dumps([Attack(str(root / "made"))]))
    with pytest.raises(InputError, match="mkdir, and a refs pickle holds plain values only"):
        list(refcoco(refs="bad.p", instances="instances.json", images=".", root=root))
    assert not (root / "made").exists()
    for content in (b"", b"\x80\x04no", pickle.dumps({})):
        (root / "bad.p").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.p"):
            list(refcoco(refs="bad.p", instances="instances.json", images=".", root=root))


def test_visual_genome_phrases_find_their_boxes(root: Path) -> None:
    (root / "a.png").rename(root / "7.png")
    region = {"region_id": 5, "x": 10, "y": 5, "width": 20, "height": 30, "phrase": "a red wall. ", "image_id": 7}
    rows = [{"id": 7, "regions": [region, {**region, "x": None}, {**region, "phrase": " "}]}, {"id": 8}]
    items = list(visual_genome(regions=write(root, "v.json", rows), images=".", root=root, extension="png"))
    (wall,) = sound(items[:1])
    assert wall.answer == {"boxes": [[10, 5, 30, 35]]}
    assert wall.prompt[0]["content"][1]["text"] == "Locate this in the picture: a red wall."
    assert [reason for reason, _ in refused(items)] == ["bad_answer", "no_question", "bad_row"]
