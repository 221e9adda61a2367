"""Files in the formats of other projects, written as those projects write them, become samples."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.operator import Quarantined
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample
from data_engine.sources import json_lines
from data_engine.sources.conversations import conversations, ms_swift, vlm_r1
from data_engine.sources.moments import activitynet, charades_sta
from data_engine.sources.phrases import refcoco, visual_genome
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import json_array, jsonl
from data_engine.sources.verl import verl
from data_engine.sources.webdataset import webdataset
from mmrl.core.config import InputError
from mmrl.core.config import validate as configured
from mmrl.core.vision import CoordinateSpace
from tests.support.faulty import form_fault


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a picture a.png of 100 x 50 pixels."""
    Image.new("RGB", (100, 50), "red").save(tmp_path / "a.png")
    return tmp_path


def write(root: Path, name: str, rows: list[Any]) -> str:
    """The name of a new file: JSON lines if it ends so, else one array."""
    text = "\n".join(map(json.dumps, rows)) if name.endswith(".jsonl") else json.dumps(rows, indent=1)
    (root / name).write_text(text, encoding="utf-8")
    return name


def sound(items: Any) -> list[Sample]:
    """The items, all of them samples that break no rule."""
    samples = list(items)
    for one in samples:
        assert isinstance(one, Sample), one
        assert form_fault(one) is None
    return samples


def refused(items: Any) -> list[tuple[str, str]]:
    """(reason, where) of the items that are quarantined."""
    return [(one.reason, one.where) for one in items if isinstance(one, Quarantined)]


@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_an_array_is_read_as_a_stream(root: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", chunk)
    rows = [{"question": f"Réd [{n}]?", "answer": n} for n in (1, 12, 123)]
    samples = sound(json_array(path=write(root, "a.json", rows), root=root, rows=Rows(task="count")))
    assert [one.answer["number"] for one in samples] == [1, 12, 123]
    assert [one.meta["where"] for one in samples] == ["a.json:2", "a.json:6", "a.json:10"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": 1}', "x.json:1"),
        ("", "x.json:1"),
        ("[", "x.json:1"),
        ('[\n{"question": "a"', "x.json:2"),
        ("[12", "x.json:1"),
        ('[\n\n{"a": NaN}]', "x.json:3"),
        ("[" * 100_000, "x.json:1"),
    ],
)
def test_a_broken_array_says_where(root: Path, text: str, where: str) -> None:
    (root / "x.json").write_text(text)
    assert refused(json_array(path="x.json", root=root)) == [("bad_json", where)]


def test_an_entry_that_is_too_deep_is_one_broken_row(root: Path) -> None:
    (root / "x.json").write_text(
        '[{"a": ' + "[" * 40 + "]" * 40 + '},\n{"question": "?", "answer": 1, "task": "count"}]'
    )
    items = list(json_array(path="x.json", root=root))
    assert refused(items) == [("bad_json", "x.json:1")]
    assert len(sound(items[1:])) == 1


@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_what_is_lost_of_an_array_is_said(root: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", chunk)
    good = '{"question": "?", "answer": 1, "task": "count"}'
    (root / "x.json").write_text(f'[{good},\n{{"a": NaN, "b": [-Infinity]}},\n{good}]\n \n [{good}]\n')
    items = list(json_array(path="x.json", root=root))
    assert [one.meta["where"] for one in items if isinstance(one, Sample)] == ["x.json:1", "x.json:3"]
    assert refused(items) == [("bad_json", "x.json:2"), ("bad_json", "x.json:5")]
    assert isinstance(items[-1], Quarantined)
    assert "behind the ] of the array there is more, and it is unread" in items[-1].why
    (root / "x.json").write_text(f"[{good}]\n \n")
    assert len(sound(json_array(path="x.json", root=root))) == 1


def test_an_entry_that_never_ends_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_ENTRY", 1000)
    (root / "x.json").write_text('[{"a": "' + "x" * 500_000)
    assert refused(json_array(path="x.json", root=root)) == [("bad_json", "x.json:1")]


def test_a_line_that_is_too_long_is_one_broken_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_ENTRY", 1000)
    good = json.dumps({"question": "?", "answer": 1, "task": "count"})
    (root / "x.jsonl").write_text(f"{good}\n{'x' * 3500}\n{good}\n{'y' * 1000}\n{'z' * 999}\n{good}\n{'x' * 2500}")
    items = list(jsonl(path="x.jsonl", root=root))
    assert [one.meta["where"] for one in items if isinstance(one, Sample)] == ["x.jsonl:1", "x.jsonl:3", "x.jsonl:6"]
    broken = [("bad_json", f"x.jsonl:{number}") for number in (2, 4, 5, 7)]
    assert refused(items) == broken


def talk(*texts: str, names: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": names[place % 2], "value": text} for place, text in enumerate(texts)]


def test_llava_conversations_end_in_their_gold(root: Path) -> None:
    rows = [{"id": "7", "image": "a.png", "conversations": talk("<image>\nWhat colour?", "Red.", "Sure?", "Yes.")}]
    (last,) = sound(conversations(path=write(root, "l.json", rows), root=root))
    assert last.answer == {"references": ["Yes."]}
    assert [message["role"] for message in last.prompt] == ["user", "assistant", "user"]
    assert [part["type"] for part in last.prompt[0]["content"]] == ["image", "text"]
    assert last.meta == {"id": "7", "where": "l.json:2"}
    (first,) = sound(conversations(path="l.json", root=root, turn="first", task="text"))
    assert first.answer == {"text": ["Red."]}
    assert len(first.prompt) == 1


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
    path = write(root, "s.jsonl", [{"images": images, "conversations": said} for images, said in talks])
    turns: dict[Literal["first", "last"], list[int]] = {"first": [1, 0], "last": [2, 1]}
    for turn, counts in turns.items():
        items = list(conversations(path=path, root=root, task="text", turn=turn))
        assert [len(one.media) for one in sound(items[:2])] == counts
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
    rows = [{"image": "a.png", "conversations": talk(*said)} for said in chosen]
    items = list(conversations(path=write(root, "c.jsonl", rows), root=root, task="choice"))
    assert [one.answer for one in sound(items[:3])] == [{"choice": "B", "options": ["a cat", "a dog"]}] * 3
    assert refused(items) == [("bad_answer", "c.jsonl:4"), ("no_answer", "c.jsonl:5"), ("no_answer", "c.jsonl:6")]
    said = '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "dog"}]\n```'
    rows = [{"image": "a.png", "problem": "<image>All?", "solution": text} for text in (said, "[1, 2, 30, 40]")]
    items = list(vlm_r1(path=write(root, "d.jsonl", rows), root=root, task="detection"))
    assert sound(items[:1])[0].answer == {"boxes": [[1, 2, 30, 40], [5, 6, 7, 8]], "labels": ["cat", "dog"]}
    assert refused(items) == [("bad_answer", "d.jsonl:2")]
    easy = [{"problem": "What?\nA. 2\nB. 4", "answer": "B"}]
    pq.write_table(pa.Table.from_pylist(easy), root / "e.parquet")
    (one,) = sound(verl(path="e.parquet", root=root, task="choice"))
    assert one.answer == {"choice": "B", "options": ["2", "4"]}


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
    (said,) = sound(
        vlm_r1(path=write(root, "s.jsonl", [asked]), root=root, task="grounding", space=CoordinateSpace.resized)
    )
    pq.write_table(pa.Table.from_pylist([{**asked, "answer": asked["solution"]}]), root / "s.parquet")
    (told,) = sound(verl(path="s.parquet", root=root, task="grounding", space=CoordinateSpace.resized))
    assert said.answer == told.answer == {"boxes": [[10, 5, 30, 40]]}


def test_broken_conversations_say_where(root: Path) -> None:
    rows = [
        {"conversations": []},
        {"conversations": talk("Hi")},
        {"conversations": [{"from": "cat", "value": "Miaow"}]},
        {"conversations": talk("<image> What?", "Red")},
        {"image": "../a.png", "conversations": talk("What?", "Red")},
        ["no", "object"],
        {"conversations": ["Hi", "You"]},
    ]
    found = refused(conversations(path=write(root, "b.jsonl", rows), root=root))
    reasons = ["no_conversation", "no_answer", "bad_turn", "marker_mismatch", "outside_root", "bad_row", "bad_turn"]
    assert found == [(reason, f"b.jsonl:{line}") for line, reason in enumerate(reasons, start=1)]


def test_vlm_r1_boxes_and_problems(root: Path) -> None:
    rows = [
        {"image": "a.png", "conversations": talk("<image>Where is it?", "<answer>[10, 20, 30, 40]</answer>")},
        {"image": ["a.png"], "problem": "Where?", "solution": '<answer>{"bbox_2d": [1, 2, 3, 4]}</answer>'},
        {"image": "a.png", "problem": "Where?", "solution": [5, 6, 7, 8], "normalized_solution": [50, 120, 70, 160]},
        {"image": "a.png", "problem": "Where?", "solution": "<answer>there</answer>"},
        {"image": "a.png", "problem": "Where?"},
    ]
    items = list(vlm_r1(path=write(root, "r.jsonl", rows), root=root, task="grounding"))
    assert [one.answer["boxes"] for one in sound(items[:3])] == [[[10, 20, 30, 40]], [[1, 2, 3, 4]], [[5, 6, 7, 8]]]
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


def test_easy_r1_and_verl_parquet(root: Path) -> None:
    picture = {"bytes": (root / "a.png").read_bytes(), "path": None}
    easy = {"images": [picture], "problem": "<image>What is 1/2 + 1/2?", "answer": "1"}
    chat = [{"role": "system", "content": "Think."}, {"role": "user", "content": "<image>How many?"}]
    judge = {"style": "rule", "ground_truth": "3"}
    whole = {"data_source": "geo", "prompt": chat, "images": [picture], "reward_model": judge}
    whole |= {"ability": "math", "extra_info": {"split": "train", "index": 4}}
    for name, row in (("easy", easy), ("verl", whole)):
        pq.write_table(pa.Table.from_pylist([row]), root / f"{name}.parquet")
    (one,) = sound(verl(path="easy.parquet", root=root))
    assert (one.answer, one.media[0].bytes, one.meta) == ({"math": "1"}, picture["bytes"], {"where": "easy.parquet:1"})
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
        (one,) = sound(verl(path=f"{name}.parquet", root=root))
        assert (one.answer, one.media[0].path) == ({"math": "4"}, str(root / file))
    assert refused(verl(path="o.parquet", root=root)) == [("outside_root", "o.parquet:1")]


def test_verl_checks_columns_first_and_rows_one_by_one(root: Path) -> None:
    rows = [{"problem": "1?", "answer": "[1, 2, 3, 4]", "images": ["a.png"]}, {"problem": "2?", "answer": ""}]
    rows += [{"problem": "", "answer": "1"}, {"problem": "Where?", "answer": "here"}]
    pq.write_table(pa.Table.from_pylist(rows), root / "e.parquet")
    items = list(verl(path="e.parquet", root=root, task="grounding"))
    assert sound(items[:1])[0].answer == {"boxes": [[1, 2, 3, 4]]}
    found = [("no_answer", "e.parquet:2"), ("no_question", "e.parquet:3"), ("bad_answer", "e.parquet:4")]
    assert refused(items) == found
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
    assert [one.answer["spans"] for one in sound(items[:2])] == [[[0.5, 3]], [[2, 9.0]]]
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
    said = [{"raw": "Left dog.", "sent": "left dog", "sent_id": 0}, {"raw": "the dog", "sent_id": 1}, "dog"]
    ref = {"ref_id": 1, "image_id": 7, "ann_id": 3, "split": "train", "sentences": said}
    loop: dict[str, Any] = {"image_id": 7}
    loop["sentences"] = loop
    refs = [ref, {**ref, "ann_id": 4}, loop, {**ref, "image_id": 10**5000}]
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    items = list(refcoco(refs="refs(unc).p", instances="instances.json", images=".", root=root))
    samples = sound(items[:2])
    assert [one.prompt[0]["content"][1]["text"].split(": ")[1] for one in samples] == ["left dog.", "the dog."]
    assert samples[0].answer == {"boxes": [[1, 2, 11, 22]]}
    declared = {"box_space": "pixel", "box_format": "xywh"}
    assert samples[0].meta == {"ref_id": 1, "split": "train", "where": "refs(unc).p:1#1", **declared}
    found = [("no_question", "refs(unc).p:1#3"), ("unknown_image", "refs(unc).p:2"), ("bad_row", "refs(unc).p:3")]
    found.append(("bad_row", "refs(unc).p:4"))
    assert refused(items) == found


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


def tar_of(root: Path, name: str, members: dict[str, bytes | None]) -> str:
    """The name of a new tar file; a member without content is a link out of it."""
    with tarfile.open(root / name, "w") as tar:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return name


def test_a_webdataset_is_a_stream_of_rows(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count", "image": "/etc/passwd"}).encode()
    members = {"x/001.png": picture, "x/001.json": asked, "x/002.txt": b"What?", "x/002.0.png": picture}
    members |= {"x/002.1.PNG": picture, "x/002.cls": b"3\n", "../../003.png": picture, "../../003.json": asked}
    links = {"x/004.png": None, "x/004.json": asked, "x/005.json": b"{", "x/006.json": b"[1]"}
    path = tar_of(root, "t.tar", {**members, **links})
    before = sorted(root.parent.rglob("*"))
    items = list(webdataset(path=path, root=root, rows=Rows(task="count")))
    samples = sound(items[:3])
    assert [(one.answer, len(one.media)) for one in samples] == [
        ({"number": 2}, 1),
        ({"number": 3}, 2),
        ({"number": 2}, 1),
    ]
    assert all(media.bytes == picture for one in samples for media in one.media)
    assert refused(items) == [
        ("not_a_file", "t.tar: x/004"),
        ("bad_json", "t.tar: x/005"),
        ("bad_row", "t.tar: x/006"),
    ]
    assert sorted(root.parent.rglob("*")) == before  # nothing was unpacked


@pytest.mark.parametrize("size", [2048, 2500, 3000])
def test_a_tar_that_breaks_off_gives_what_is_before(root: Path, size: int) -> None:
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    tar_of(root, "t.tar", {"1.json": asked, "2.json": asked, "3.png": bytes(2000)})
    (root / "t.tar").write_bytes((root / "t.tar").read_bytes()[:size])
    items = list(webdataset(path="t.tar", root=root))
    assert len(sound(items[:2])) == 2
    assert refused(items) == [("truncated", "t.tar")]


def test_what_is_behind_the_readable_part_of_a_tar_is_not_lost_in_silence(root: Path) -> None:
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    whole = (root / tar_of(root, "t.tar", {"1.json": asked, "2.json": asked})).read_bytes()
    damaged = bytearray(whole)
    damaged[1024 + 148 : 1024 + 156] = b"99999999"  # the checksum of the second header
    for content, start in ((bytes(damaged), 1024), (whole + whole, len(whole))):
        (root / "t.tar").write_bytes(content)
        *samples, last = webdataset(path="t.tar", root=root)
        assert len(sound(samples)) == (1 if start == 1024 else 2)
        assert isinstance(last, Quarantined)
        assert last.reason == "truncated"
        assert f"from byte {start} on the tar file cannot be read" in last.why


def test_no_question_of_a_tar_is_kept_without_its_picture(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    named = json.dumps({"question": "How many?", "answer": 2, "task": "count", "images": ["a.png", "b.png"]}).encode()
    by_kind = {"1.json": asked, "2.json": asked, "1.png": picture, "2.png": picture}
    whole = {"3.png": picture, "._3.png": b"\0\5\x16\7", "3.json": asked, "4.json": named, "4.png": picture}
    path = tar_of(root, "t.tar", {**by_kind, **whole, "5.json": named, "6.json": asked})
    items = list(webdataset(path=path, root=root))
    kept = [(one.meta["where"], len(one.media)) for one in items if isinstance(one, Sample)]
    assert kept == [("t.tar: 3", 1), ("t.tar: 6", 0)]
    apart = [("scattered", f"t.tar: {key}") for key in (1, 2, 1, 2)]
    assert refused(items) == [*apart, ("missing", "t.tar: 4"), ("missing", "t.tar: 5")]


def test_the_pictures_of_a_tar_are_shown_in_the_order_of_their_numbers(root: Path) -> None:
    pictures = {f"s.{number}.png": bytes([number]) for number in range(12)}
    asked = json.dumps({"question": "Which?", "answer": 2, "task": "count"}).encode()
    members: dict[str, bytes | None] = {name: pictures[name] for name in sorted(pictures)}
    (sample,) = sound(webdataset(path=tar_of(root, "t.tar", {**members, "s.json": asked}), root=root))
    assert [media.bytes for media in sample.media] == [bytes([number]) for number in range(12)]


def test_a_small_tar_does_not_grow_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_engine.sources.webdataset.MAX_SAMPLE", 1500)
    hole = tarfile.TarInfo("1.0.jpg")
    hole.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(hole.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**20  # the size with the holes; what is stored is nothing
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    full = tar_of(root, "t.tar", {"2.0.jpg": bytes(1000), "2.1.jpg": bytes(1000), "3.jpg": bytes(1000), "3.cls": b"1"})
    (root / full).write_bytes(bytes(header) + (root / full).read_bytes())
    found = refused(webdataset(path="t.tar", root=root, rows=Rows(task="count")))
    assert found == [("not_a_file", "t.tar: 1"), ("bomb", "t.tar: 2"), ("no_question", "t.tar: 3")]


@pytest.mark.parametrize("size", [-512, 2**60])
def test_a_size_that_cannot_be_ends_a_tar(root: Path, size: int) -> None:
    lying = tarfile.TarInfo("1.npy")
    lying.size = size
    (root / "t.tar").write_bytes(lying.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert ("truncated", "t.tar") in refused(webdataset(path="t.tar", root=root, rows=Rows(task="count")))
